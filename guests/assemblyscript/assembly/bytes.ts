/** Values as programs have them, strings in UTF-8 or a Uint8Array, and as bytes. */

/** Returns a value's bytes. */
export function encode<T>(value: T): Uint8Array {
  if (isString<T>()) return Uint8Array.wrap(String.UTF8.encode(changetype<string>(value)));
  if (idof<T>() == idof<Uint8Array>()) return changetype<Uint8Array>(value);
  ERROR("a value is a string or a Uint8Array");
}

/** Returns the value that has these bytes. */
export function decode<T>(bytes: Uint8Array): T {
  if (isString<T>()) return changetype<T>(String.UTF8.decodeUnsafe(bytes.dataStart, bytes.length));
  if (idof<T>() == idof<Uint8Array>()) return changetype<T>(bytes);
  ERROR("a value is a string or a Uint8Array");
}
