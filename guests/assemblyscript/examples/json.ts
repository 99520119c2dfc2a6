// Just enough JSON for the examples: it finds values in a text that is taken to be valid, and leaves them as they stand. What is
// cut off or isn't JSON at all reads as absent.

/** Returns where the value that starts at `at` ends, -1 if it doesn't. */
function valueEnd(text: string, at: i32): i32 {
  let depth = 0, inString = false;
  for (let i = at; i < text.length; i++) {
    const c = text.charAt(i);
    if (inString) {
      if (c == "\\") i++;
      else if (c == '"') inString = false;
    } else if (c == '"') {
      inString = true;
    } else if (c == "{" || c == "[") {
      depth++;
    } else if (depth == 0) { // a number or a word: up to what can't be part of it
      if (",:]} \t\r\n".includes(c)) return i > at ? i : -1;
      continue;
    } else if (c == "}" || c == "]") {
      depth--;
    }
    if (depth == 0 && !inString) return i + 1;
  }
  return depth == 0 && !inString && at < text.length ? text.length : -1;
}

/** Returns the values within an array, or the keys and values within an object in turn. */
export function within(value: string): string[] {
  const values: string[] = [];
  for (let at = 1; at < value.length; ) {
    if (",: \t\r\n".includes(value.charAt(at))) {
      at++;
      continue;
    }
    const end = valueEnd(value, at);
    if (end < 0) break;
    values.push(value.substring(at, end));
    at = end;
  }
  return values;
}

/** Returns the value of an object's key; null if there is none. */
export function get(object: string, key: string): string | null {
  const fields = within(object.trim());
  for (let i = 0; i + 1 < fields.length; i += 2) {
    if (fields[i] == '"' + key + '"') return fields[i + 1];
  }
  return null;
}
