// Has five children square a number each, all at once, and adds up what they found. Each child is a coroutine of its own, with
// snapshots of its own, that starts in the function `square`.
import { Code, MILLISECOND, Operation, all, codeName, input, output, sleep, spawn } from "durun";

export function square(): void {
  const n = I64.parseInt(input());
  sleep(50 * MILLISECOND);
  output((n * n).toString());
}

export function _start(): void {
  const children: Operation<string>[] = [];
  for (let i = 1; i <= 5; i++) children.push(spawn("square", i.toString()));
  const code = all(children);
  if (code != Code.Ok) throw new Error("square: " + codeName(code));

  let sum: i64 = 0;
  for (let i = 0; i < children.length; i++) sum += I64.parseInt(children[i].value);
  console.log("sum " + sum.toString());
}
