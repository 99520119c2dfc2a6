import * as abi from "./abi";
import { encode, decode } from "./bytes";
import { Code, codeName } from "./code";

/** A time in nanoseconds. */
export type Duration = i64;

export const MILLISECOND: Duration = 1_000_000;
export const SECOND: Duration = 1_000_000_000;
/** A timeout that never comes. */
export const FOREVER: Duration = -1;

let told = false;

/**
 * Whether the last wait has ended because the program is to be cancelled, by who may, or because its parent has ended. One wait does,
 * with `Code.Cancelled` or without a winner. The program cleans up, for which it may begin and wait as ever, and returns.
 */
export function cancelled(): bool {
  return told;
}

/** Waits for operations by their numbers, as the ABI has it. Returns how many have ended, or a code, negated. */
export function waitFor(ops: StaticArray<i32>, min: u32, timeout: Duration): i32 {
  const ended = abi.wait(changetype<usize>(ops), ops.length, min, timeout);
  told = ended == -Code.Cancelled;
  return ended;
}

/** Why an operation failed; of 0, why the last one could not begin. */
function messageOf(op: i32): string {
  const len = abi.message(op, 0, 0);
  if (len <= 0) return "";
  const text = new Uint8Array(len);
  abi.message(op, text.dataStart, len);
  return decode<string>(text);
}

/** The kinds of operations, by their numbers. */
const KINDS = ["", "timer", "call", "spawn", "recv"];

/**
 * Something that the program waits for: it has begun, and goes on whether or not the program waits. T is what the result is read
 * as: a string, in UTF-8, or a Uint8Array.
 */
export class Operation<T> {
  /** The operation's number, from 1, as `durun inspect` shows it. A child's id is its parent's, a dot, and this number. */
  readonly number: i32;
  private readonly what: string;

  /** Begins an operation as the ABI has it; the functions below know how. Throws if there are too many, or too much is in them. */
  constructor(kind: u32, name: string, body: Uint8Array) {
    this.what = (KINDS[kind] + " " + name.split("\0")[0]).trimEnd();
    const text = String.UTF8.encode(name);
    this.number = abi.begin(kind, changetype<usize>(text), text.byteLength, body.dataStart, body.length);
    if (this.number < 0) throw new Error(this.failure(-this.number, messageOf(0)));
  }

  /** How it ended: `Code.Pending` if it hasn't. */
  get code(): Code {
    const len = abi.result(this.number, 0, 0);
    return len < 0 ? -len : Code.Ok;
  }

  /** Why it failed, for people. Empty if it has not. */
  get message(): string {
    return messageOf(this.number);
  }

  private failure(code: Code, message: string): string {
    return this.what + ": " + codeName(code) + (message.length > 0 ? ": " + message : "");
  }

  /** The result of one that succeeded. Throws for others, which ends the program: look at `code` first. */
  get value(): T {
    const code = this.code;
    if (code != Code.Ok) throw new Error(this.failure(code, this.message));
    const data = new Uint8Array(abi.result(this.number, 0, 0));
    abi.result(this.number, data.dataStart, data.length);
    return decode<T>(data);
  }

  /**
   * Waits until it has ended. Returns how, `Code.Pending` if the time was up before. `Code.Cancelled` says that the operation was
   * cancelled, or, if `cancelled()`, that the program is to be.
   */
  wait(timeout: Duration = FOREVER): Code {
    const ended = waitFor([this.number], 1, timeout);
    return ended < 0 ? -ended : this.code;
  }

  /** Waits until it has ended, and returns its result. Throws if it failed, or the program is to be cancelled: see `wait`. */
  result(): T {
    this.wait();
    if (cancelled()) throw new Error(this.what + ": the program is to be cancelled");
    return this.value;
  }

  /** Gives it up, if it has not ended. It ends with `Code.Cancelled`; a child when it has ended, which it may do well. */
  cancel(): void {
    abi.cancel(this.number);
  }

  /** Cancels it, if it has not ended, and forgets it. Its result is kept until then, in memory and in every snapshot. */
  drop(): void {
    abi.drop(this.number);
  }
}

/** Begins a timer. It counts from now, on the wall clock, also while nobody drives the program. */
export function timer(duration: Duration): Operation<string> {
  const body = new Uint8Array(8);
  store<i64>(body.dataStart, duration);
  return new Operation<string>(1, "", body);
}

/** Begins a call of the handler of that name. The result is the handler's, and read as what the body is. */
export function call<T>(name: string, body: T): Operation<T> {
  return new Operation<T>(2, name, encode(body));
}

/**
 * Starts a child, with snapshots of its own; its output is the result, and read as what the input is. The target is a function that
 * this program exports, "" for `_start`; or "module:NAME" or "module:NAME/EXPORT". Without arguments it has this program's. One that
 * exits with another code than 0 has failed, and its output, if that is text, is part of the message.
 */
export function spawn<T>(target: string, input: T, args: string[] = []): Operation<T> {
  let name = target;
  for (let i = 0; i < args.length; i++) name += "\0" + args[i];
  return new Operation<T>(3, name, encode(input));
}

/** Begins to receive the next message of that name that nobody has received yet. The message is the result. */
export function recv<T = string>(name: string): Operation<T> {
  return new Operation<T>(4, name, new Uint8Array(0));
}

/** Sleeps. Returns `Code.Ok`, or `Code.Cancelled`. */
export function sleep(duration: Duration): Code {
  const t = timer(duration);
  const code = t.wait();
  t.drop();
  return code;
}

