/**
 * What an AssemblyScript program says to durun.
 *
 * A program waits for operations: timers, calls of handlers outside, children, messages. `call`, `spawn`, `recv` and `timer` begin one
 * and return it, so many can be under way at once; `wait` or a join waits for them, if need be in another process, or next month.
 */
export { Code, codeName } from "./assembly/code";
export { Duration, MILLISECOND, SECOND, FOREVER, Operation, call, cancelled, recv, sleep, spawn, timer } from "./assembly/operation";
export { all, allSettled, any, race, some } from "./assembly/join";
export { checkpoint, id, input, output, parent, yieldValue } from "./assembly/coroutine";
export { args, exit, readLine } from "./assembly/wasi";
