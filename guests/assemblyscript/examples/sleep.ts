// Ticks. It doesn't matter where it sleeps, and whether the machine is up meanwhile.
import { MILLISECOND, sleep } from "durun";

export function _start(): void {
  for (let i = 1; i <= 3; i++) {
    console.log("tick " + i.toString());
    sleep(100 * MILLISECOND);
  }
}
