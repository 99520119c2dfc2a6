// Aliased as the global of the same name without "wasi_", by asconfig.json: what the compiler calls where a program throws, or
// an assertion fails.
import { wasi_console } from "./wasi_console";

/** Says what is wrong on standard error, and traps: so the host has the call stack. */
export function wasi_abort(message: string | null, fileName: string | null, line: u32, column: u32): void {
  let text = "abort";
  if (message !== null) text += ": " + message;
  if (fileName !== null) text += " in " + fileName + "(" + line.toString() + ":" + column.toString() + ")";
  wasi_console.error(text);
  unreachable();
}
