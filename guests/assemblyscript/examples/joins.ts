// All ways to wait for several operations, and all ways in which operations end. It asks for the handlers "echo", which answers with
// its argument, "fail", which fails, and "stop", which has this program cancelled.
import {
  Code, FOREVER, MILLISECOND, Operation, SECOND, all, allSettled, any, args, call, cancelled, checkpoint, codeName, id, output, parent,
  race, readLine, sleep, some, spawn, timer,
} from "durun";

function show(what: string, code: Code): void {
  console.log(what + ": " + codeName(code));
}

/** Says which of the list an operation is. */
function winner(what: string, ops: Operation<string>[], op: Operation<string> | null): void {
  console.log(what + ": " + (op === null ? "none" : ops.indexOf(op).toString()));
}

function timers(): void {
  const ops = [timer(3600 * SECOND), timer(MILLISECOND), timer(0)];
  console.log("some: " + some(ops.slice(1), 2).length.toString());
  winner("race", ops, race(ops.slice(1))); // both are over: the first in the list
  console.log("some in 1 ms: " + some(ops, 3, MILLISECOND).length.toString());
  show("all settled in 2 ms", allSettled(ops, 2 * MILLISECOND));
  show("all settled of those that end", allSettled(ops.slice(1)));
  winner("race in 0 ms", ops, race(ops.slice(0, 1), 0));
  winner("any in 1 ms", ops, any(ops.slice(0, 1), MILLISECOND));
  show("all in 1 ms", all(ops, MILLISECOND));
  ops[0].cancel();
  show("all", all(ops, FOREVER));
  show("all settled", allSettled(ops, FOREVER));
  for (let i = 0; i < ops.length; i++) ops[i].drop();
  show("dropped", ops[0].wait());
}

function calls(): void {
  const ops = [call("fail", "me"), call("echo", "hello"), call("no such handler", "")];
  winner("any", ops, any(ops));
  console.log("echo: " + ops[1].result());
  show("fail", ops[0].wait());
  console.log("why: " + ops[0].message);
  show("no such handler", ops[2].wait());
  const failures = [ops[0], ops[2]];
  winner("any of failures", failures, any(failures));
  show("all", all(ops));
  winner("race", failures, race(failures));
  winner("race of nothing", [], race<string>([]));
  show("all of nothing", all<string>([]));

  const bytes = new Uint8Array(3);
  bytes[1] = 255;
  console.log("bytes: " + call("echo", bytes).result().toString());
}

export function child(): void {
  const mother = parent();
  output(mother === null ? "nobody" : mother);
}

export function _start(): void {
  console.log("id: " + id() + ", arguments: " + args().join(" "));
  for (let line = readLine(); line !== null; line = readLine()) console.log("line: " + line);
  console.log("no parent: " + (parent() === null).toString());
  console.log("a child's: " + spawn("child", "").result());
  timers();
  calls();
  checkpoint();

  call("stop", "");
  show("sleep", sleep(3600 * SECOND));
  console.log("cancelled: " + cancelled().toString());
  show("sleep, to clean up", sleep(MILLISECOND));
  console.log("cancelled once more: " + cancelled().toString());
  output("done");
}
