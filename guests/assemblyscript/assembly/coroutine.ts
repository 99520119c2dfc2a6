import * as abi from "./abi";
import { decode, encode } from "./bytes";
import { environ } from "./wasi";

/**
 * The current value: the program's input at first, and after each `yieldValue` what that received. T is what it is read as, a
 * string, in UTF-8, or a Uint8Array.
 */
export function input<T = string>(): T {
  const value = new Uint8Array(abi.input(0, 0));
  abi.input(value.dataStart, value.length);
  return decode<T>(value);
}

/** Sets the program's result. The last call wins. */
export function output<T>(value: T): void {
  const bytes = encode(value);
  abi.output(bytes.dataStart, bytes.length);
}

/** Hands a value to the driver, waits until it goes on, and returns what it says: an empty value, if nothing. */
export function yieldValue<T>(value: T): T {
  const bytes = encode(value);
  abi.yieldValue(bytes.dataStart, bytes.length);
  return input<T>();
}

/** Makes all that has happened so far durable. */
export function checkpoint(): void {
  abi.checkpoint();
}

/** The program's id, which `durun send` takes. */
export function id(): string {
  const text = new Uint8Array(abi.id(0, 0));
  abi.id(text.dataStart, text.length);
  return decode<string>(text);
}

/** The id of the coroutine that spawned this one; null if none did. */
export function parent(): string | null {
  const name = "DURUN_PARENT=", list = environ();
  for (let i = 0; i < list.length; i++) {
    if (list[i].length > name.length && list[i].startsWith(name)) return list[i].slice(name.length);
  }
  return null;
}
