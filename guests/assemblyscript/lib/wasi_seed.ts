// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "random_get")
declare function random_get(buf: usize, len: usize): u16;

/** Seeds Math.random. */
export function wasi_seed(): f64 {
  const seed = memory.data(8);
  random_get(seed, 8);
  return reinterpret<f64>(load<u64>(seed));
}
