/** How an operation or a wait ended. Take a code that is not in the list for a failure. */
export enum Code {
  Ok = 0,
  /** The operation has not ended; of a wait: the time was up before. */
  Pending = 1,
  /** There is no such operation, or it was dropped. */
  Unknown = 2,
  /** The arguments make no sense. */
  Invalid = 3,
  /** Too many operations, or too much. */
  Limit = 4,
  /** The run was given no handler or module of that name. */
  Denied = 5,
  /** The handler says that it is of no use to try again; the child failed. */
  Failed = 6,
  /** The handler's time was up. */
  Timeout = 7,
  /** The operation was cancelled; of a wait, see `cancelled`. */
  Cancelled = 8,
  /** All attempts of the handler failed. */
  Exhausted = 9,
}

/** Returns a code's name, "pending" for example. */
export function codeName(code: Code): string {
  switch (code) {
    case Code.Ok: return "ok";
    case Code.Pending: return "pending";
    case Code.Unknown: return "unknown";
    case Code.Invalid: return "invalid";
    case Code.Limit: return "limit";
    case Code.Denied: return "denied";
    case Code.Failed: return "failed";
    case Code.Timeout: return "timeout";
    case Code.Cancelled: return "cancelled";
    case Code.Exhausted: return "exhausted";
  }
  return "code " + (<i32>code).toString();
}
