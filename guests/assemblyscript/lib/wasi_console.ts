// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, iovecs: usize, count: usize, written: usize): u16;

/** Lines on standard output and error. What it writes it writes at once. */
export namespace wasi_console {
  /** Writes a line to standard output. */
  export function log(message: string = ""): void {
    writeLine(1, message);
  }

  /** Writes a line to standard error. */
  export function error(message: string = ""): void {
    writeLine(2, message);
  }
}

function writeLine(fd: u32, message: string): void {
  const text = String.UTF8.encode(message + "\n");
  const iovec = memory.data(8), written = memory.data(4);
  let from = changetype<usize>(text), left = <u32>text.byteLength;
  while (left > 0) {
    store<u32>(iovec, <u32>from);
    store<u32>(iovec, left, 4);
    if (fd_write(fd, iovec, 1, written) != 0) return; // nobody can be told
    from += load<u32>(written);
    left -= load<u32>(written);
  }
}
