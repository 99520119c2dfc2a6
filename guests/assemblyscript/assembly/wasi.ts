/** What a program needs of WASI preview 1 beside the console. */

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "args_sizes_get")
declare function args_sizes_get(count: usize, size: usize): u16;

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "args_get")
declare function args_get(pointers: usize, texts: usize): u16;

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environ_sizes_get(count: usize, size: usize): u16;

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_get")
declare function environ_get(pointers: usize, texts: usize): u16;

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: u32, iovecs: usize, count: usize, read: usize): u16;

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(code: u32): void;

/** Ends the program with that exit code. One that was told to end, see `cancelled`, has been cancelled if that is not 0. */
export function exit(code: i32): void {
  proc_exit(code);
}

/** The program's arguments; the first is its name. */
export function args(): string[] {
  const sizes = memory.data(8);
  if (args_sizes_get(sizes, sizes + 4) != 0) return [];
  const pointers = new StaticArray<u32>(load<u32>(sizes)), texts = new Uint8Array(load<u32>(sizes, 4));
  if (args_get(changetype<usize>(pointers), texts.dataStart) != 0) return [];
  return strings(pointers);
}

/** The program's environment: each string is a name, an equals sign, and the value. */
export function environ(): string[] {
  const sizes = memory.data(8);
  if (environ_sizes_get(sizes, sizes + 4) != 0) return [];
  const pointers = new StaticArray<u32>(load<u32>(sizes)), texts = new Uint8Array(load<u32>(sizes, 4));
  if (environ_get(changetype<usize>(pointers), texts.dataStart) != 0) return [];
  return strings(pointers);
}

/** Reads strings in UTF-8, each with a NUL after it. */
function strings(pointers: StaticArray<u32>): string[] {
  const list: string[] = [];
  for (let i = 0; i < pointers.length; i++) {
    let end: usize = pointers[i];
    while (load<u8>(end) != 0) end++;
    list.push(String.UTF8.decodeUnsafe(pointers[i], end - pointers[i]));
  }
  return list;
}

/** What was read of standard input and not handed out yet. */
let ahead: u8[] = [];

/** Waits for a line of standard input, and returns it without its end; null when there are no more. */
export function readLine(): string | null {
  const chunk = new Uint8Array(4096), iovec = memory.data(8), read = memory.data(4);
  let from = 0;
  while (true) {
    const end = ahead.indexOf(0x0a, from);
    if (end >= 0) return line(end, end + 1);
    from = ahead.length;
    store<u32>(iovec, <u32>chunk.dataStart);
    store<u32>(iovec, chunk.length, 4);
    if (fd_read(0, iovec, 1, read) != 0 || load<u32>(read) == 0) return from > 0 ? line(from, from) : null;
    for (let i: u32 = 0; i < load<u32>(read); i++) ahead.push(chunk[i]);
  }
}

/** Takes a line of that many bytes off what was read, up to next. */
function line(length: i32, next: i32): string {
  const text = String.UTF8.decodeUnsafe(ahead.dataStart, length);
  ahead = ahead.slice(next);
  return text;
}
