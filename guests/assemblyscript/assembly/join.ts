import { Code } from "./code";
import { Duration, FOREVER, Operation, waitFor } from "./operation";

/** Added to a minimum: only operations that succeeded count. */
const SUCCESSES: u32 = 1 << 31;

/** Waits until min of the operations have ended. Returns how many have, or a code, negated. */
function join<T>(ops: Operation<T>[], min: u32, timeout: Duration): i32 {
  const numbers = new StaticArray<i32>(ops.length);
  for (let i = 0; i < ops.length; i++) numbers[i] = ops[i].number;
  return waitFor(numbers, min, timeout);
}

/**
 * Waits until all have succeeded, or one has failed. Returns `Code.Ok`; or why the first in the list that failed did; or
 * `Code.Pending` if the time was up before.
 */
export function all<T>(ops: Operation<T>[], timeout: Duration = FOREVER): Code {
  const ended = join(ops, SUCCESSES | ops.length, timeout);
  if (ended < 0) return -ended;
  let pending = Code.Ok;
  for (let i = 0; i < ops.length; i++) {
    const code = ops[i].code;
    if (code == Code.Pending) pending = code;
    else if (code != Code.Ok) return code;
  }
  return pending;
}

/** Waits until all have ended, whatever their ends. Returns `Code.Ok`, or `Code.Pending` if the time was up before. */
export function allSettled<T>(ops: Operation<T>[], timeout: Duration = FOREVER): Code {
  const ended = join(ops, ops.length, timeout);
  if (ended < 0) return -ended;
  return ended < ops.length ? Code.Pending : Code.Ok;
}

/** Waits until n have ended, whatever their ends. Returns those that have; fewer if the time was up before. */
export function some<T>(ops: Operation<T>[], n: i32, timeout: Duration = FOREVER): Operation<T>[] {
  const ended: Operation<T>[] = [];
  if (join(ops, n, timeout) < 0) return ended;
  for (let i = 0; i < ops.length; i++) {
    if (ops[i].code != Code.Pending) ended.push(ops[i]);
  }
  return ended;
}

/**
 * Waits until one has ended, whatever its end. Returns it, the first in the list if there are several; null if the time was up
 * before, or the list is empty.
 */
export function race<T>(ops: Operation<T>[], timeout: Duration = FOREVER): Operation<T> | null {
  const ended = some(ops, 1, timeout);
  return ended.length > 0 ? ended[0] : null;
}

/**
 * Waits until one has succeeded. Returns it, the first in the list if there are several; null if all have failed, or the time was
 * up before.
 */
export function any<T>(ops: Operation<T>[], timeout: Duration = FOREVER): Operation<T> | null {
  if (join(ops, SUCCESSES | 1, timeout) < 0) return null;
  for (let i = 0; i < ops.length; i++) {
    if (ops[i].code == Code.Ok) return ops[i];
  }
  return null;
}
