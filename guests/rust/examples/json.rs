//! As much of JSON as the examples need. Programs of more than an example use serde_json.

#![allow(dead_code)] // no example needs all of it

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The member of that name, if this is an object that has one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(string) => Some(string),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }
}

/// Writes a string as JSON.
pub fn quote(string: &str) -> String {
    let mut quoted = String::from('"');
    for c in string.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => {
                write!(quoted, "\\u{:04x}", c as u32).expect("strings can be written to")
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads a value, and nothing after it.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser {
        rest: text.chars().peekable(),
    };
    let value = parser.value()?;
    match parser.peek() {
        None => Ok(value),
        Some(c) => Err(format!("JSON: {c:?} after the value")),
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Parser<'_> {
    /// The next character that isn't space.
    fn peek(&mut self) -> Option<char> {
        while self.rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    /// Takes a character, if it comes next.
    fn take(&mut self, c: char) -> bool {
        self.peek() == Some(c) && self.rest.next().is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        match self.take(c) {
            true => Ok(()),
            false => Err(format!("JSON: {c:?} expected, not {:?}", self.peek())),
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.peek() {
            Some('"') => self.string().map(Value::String),
            Some('[') => self.array(),
            Some('{') => self.object(),
            _ => self.word(),
        }
    }

    fn array(&mut self) -> Result<Value, String> {
        let mut values = Vec::new();
        self.expect('[')?;
        if self.take(']') {
            return Ok(Value::Array(values));
        }
        loop {
            values.push(self.value()?);
            if !self.take(',') {
                self.expect(']')?;
                return Ok(Value::Array(values));
            }
        }
    }

    fn object(&mut self) -> Result<Value, String> {
        let mut members = Vec::new();
        self.expect('{')?;
        if self.take('}') {
            return Ok(Value::Object(members));
        }
        loop {
            let name = self.string()?;
            self.expect(':')?;
            members.push((name, self.value()?));
            if !self.take(',') {
                self.expect('}')?;
                return Ok(Value::Object(members));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let mut string = String::new();
        self.expect('"')?;
        loop {
            match self.rest.next().ok_or("JSON: a string without end")? {
                '"' => return Ok(string),
                '\\' => string.push(self.escape()?),
                c => string.push(c),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, String> {
        match self.rest.next() {
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => {
                let mut unit = self.hex()?;
                if (0xd800..0xdc00).contains(&unit) && self.rest.next_if_eq(&'\\').is_some() {
                    // The first half of a character beyond the 16 bits of an escape.
                    self.rest.next_if_eq(&'u').ok_or("JSON: half a character")?;
                    unit = 0x10000 + ((unit - 0xd800) << 10) + (self.hex()? & 0x3ff);
                }
                Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            Some(c @ ('"' | '\\' | '/')) => Ok(c),
            c => Err(format!("JSON: an escape of {c:?}")),
        }
    }

    fn hex(&mut self) -> Result<u32, String> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.rest.next().and_then(|c| c.to_digit(16));
            number = number * 16 + digit.ok_or("JSON: an escape without four hex digits")?;
        }
        Ok(number)
    }

    /// null, true, false, or a number.
    fn word(&mut self) -> Result<Value, String> {
        let mut word = String::new();
        while let Some(c) = self
            .rest
            .next_if(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c))
        {
            word.push(c);
        }
        match word.as_str() {
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => word
                .parse()
                .map(Value::Number)
                .map_err(|_| format!("JSON: {word:?} is no value")),
        }
    }
}
