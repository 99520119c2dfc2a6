// Waits for the message "approval", which is "yes" or something else in JSON, but not for ever: two seconds, or as many as the
// input says: {"timeout": 86400}.
import { Code, Duration, SECOND, codeName, exit, input, recv } from "durun";
import { get } from "./json";

export function _start(): void {
  const timeout = get(input(), "timeout");
  const seconds = timeout === null ? 2 : F64.parseFloat(timeout);

  const approval = recv("approval");
  const code = approval.wait(<Duration>(seconds * <f64>SECOND));
  if (code == Code.Pending) console.log("timed out");
  else if (code == Code.Cancelled) exit(1);
  else if (code != Code.Ok) throw new Error("approval: " + codeName(code));
  else console.log(approval.value.trim() == '"yes"' ? "approved" : "declined");
}
