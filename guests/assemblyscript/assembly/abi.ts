/**
 * The import module "durun", version 1, as hostabi/ABI.md has it. Values are ranges of bytes; functions that return i32 return a
 * code, negated, where something is wrong.
 */

// @ts-ignore: decorator
@external("durun", "input")
export declare function input(buf: usize, cap: u32): i32;

// @ts-ignore: decorator
@external("durun", "output")
export declare function output(ptr: usize, len: u32): void;

// @ts-ignore: decorator
@external("durun", "yield")
export declare function yieldValue(ptr: usize, len: u32): i32;

// @ts-ignore: decorator
@external("durun", "checkpoint")
export declare function checkpoint(): void;

// @ts-ignore: decorator
@external("durun", "id")
export declare function id(buf: usize, cap: u32): i32;

// @ts-ignore: decorator
@external("durun", "begin")
export declare function begin(kind: u32, name: usize, nameLen: u32, body: usize, bodyLen: u32): i32;

// @ts-ignore: decorator
@external("durun", "wait")
export declare function wait(ops: usize, n: u32, min: u32, timeout: i64): i32;

// @ts-ignore: decorator
@external("durun", "result")
export declare function result(op: i32, buf: usize, cap: u32): i32;

// @ts-ignore: decorator
@external("durun", "message")
export declare function message(op: i32, buf: usize, cap: u32): i32;

// @ts-ignore: decorator
@external("durun", "cancel")
export declare function cancel(op: i32): i32;

// @ts-ignore: decorator
@external("durun", "drop")
export declare function drop(op: i32): i32;
