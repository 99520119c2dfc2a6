// Hands out the squares of 1 to 5, and adds up the numbers that come in for them.
import { yieldValue } from "durun";

export function _start(): void {
  let sum: i64 = 0;
  for (let i = 1; i <= 5; i++) {
    const received = yieldValue((i * i).toString()); // the program may rest here for as long as it takes
    if (received.length > 0) sum += I64.parseInt(received);
  }
  console.log("received " + sum.toString());
}
