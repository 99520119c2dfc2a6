// Traits, boxed closures, iterators, strings and maps, a sleep in the middle of each. What it prints does not depend on
// timing; the exit code is 5, and a panic is a trap.
//
//     journal [panic]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

fn rest() {
    thread::sleep(Duration::from_millis(3));
}

/// A dropped value is written down, so that drops across sleeps are seen.
struct Noted {
    name: &'static str,
    log: Rc<RefCell<Vec<&'static str>>>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        rest();
        self.log.borrow_mut().push(self.name);
    }
}

trait Shape {
    fn area(&self) -> f64;
    fn name(&self) -> String {
        rest(); // in a provided method, through a vtable
        format!("{:.3}", self.area())
    }
}

struct Circle(f64);
struct Rect {
    w: f64,
    h: f64,
}
struct Group(Vec<Box<dyn Shape>>);

impl Shape for Circle {
    fn area(&self) -> f64 {
        std::f64::consts::PI * self.0 * self.0
    }
}

impl Shape for Rect {
    fn area(&self) -> f64 {
        rest();
        self.w * self.h
    }
    fn name(&self) -> String {
        format!("{}x{}", self.w, self.h)
    }
}

impl Shape for Group {
    fn area(&self) -> f64 {
        self.0.iter().map(|s| s.area()).sum()
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(i64),
    Op(char),
    Open,
    Close,
}

#[derive(Debug)]
enum Error {
    Unexpected(Option<Token>),
    Divide(i64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Unexpected(t) => write!(f, "unexpected {:?}", t),
            Error::Divide(n) => write!(f, "{} divided by zero", n),
        }
    }
}

fn tokens(text: &str) -> VecDeque<Token> {
    let mut out = VecDeque::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '0'..='9' => {
                let mut n = c.to_digit(10).unwrap() as i64;
                while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                    n = n * 10 + d as i64;
                    chars.next();
                }
                out.push_back(Token::Number(n));
            }
            '(' => out.push_back(Token::Open),
            ')' => out.push_back(Token::Close),
            c if c.is_whitespace() => {}
            c => out.push_back(Token::Op(c)),
        }
    }
    out
}

/// Recursive descent with `?` out of the depths; sleeps at each parenthesis.
fn expr(t: &mut VecDeque<Token>, level: usize) -> Result<i64, Error> {
    let ops: &[char] = if level == 0 { &['+', '-'] } else { &['*', '/'] };
    let mut acc = if level == 0 { expr(t, 1)? } else { atom(t)? };
    while let Some(&Token::Op(c)) = t.front() {
        if !ops.contains(&c) {
            break;
        }
        t.pop_front();
        let right = if level == 0 { expr(t, 1)? } else { atom(t)? };
        acc = match c {
            '+' => acc + right,
            '-' => acc - right,
            '*' => acc * right,
            _ if right == 0 => return Err(Error::Divide(acc)),
            _ => acc / right,
        };
    }
    Ok(acc)
}

fn atom(t: &mut VecDeque<Token>) -> Result<i64, Error> {
    match t.pop_front() {
        Some(Token::Number(n)) => Ok(n),
        Some(Token::Open) => {
            rest();
            let n = expr(t, 0)?;
            match t.pop_front() {
                Some(Token::Close) => Ok(n),
                other => Err(Error::Unexpected(other)),
            }
        }
        other => Err(Error::Unexpected(other)),
    }
}

fn compose(n: u32) -> Box<dyn Fn(u64) -> u64> {
    if n == 0 {
        return Box::new(|x| {
            rest();
            x
        });
    }
    let inner = compose(n - 1);
    let calls = Cell::new(0u64);
    Box::new(move |x| {
        calls.set(calls.get() + 1);
        inner(x.wrapping_mul(31).wrapping_add(n as u64)) ^ calls.get().rotate_left(n)
    })
}

fn fold(depth: u32, acc: u128, f: &dyn Fn(u128) -> u128) -> u128 {
    if depth == 0 {
        rest();
        return acc;
    }
    let x = f(acc);
    fold(depth - 1, x, f) ^ (x >> 3)
}

fn main() {
    let start = Instant::now();
    let log = Rc::new(RefCell::new(Vec::new()));
    let _outer = Noted { name: "outer", log: log.clone() };

    let group = Group(vec![
        Box::new(Circle(1.5)),
        Box::new(Rect { w: 2.0, h: 3.5 }),
        Box::new(Group(vec![Box::new(Rect { w: 1.0, h: 0.25 }), Box::new(Circle(0.1))])),
    ]);
    let names: Vec<String> = group.0.iter().map(|s| s.name()).collect();
    println!("shapes {} total {:.6}", names.join(", "), group.area());

    for text in ["1 + 2 * 3", "(1 + (2 - 8)) * (3 + 4)", "7 * (2 + ", "10 / (5 - (2 + 3))"] {
        match expr(&mut tokens(text), 0) {
            Ok(n) => println!("{} = {}", text, n),
            Err(e) => println!("{}: {}", text, e),
        }
    }

    let f = compose(12);
    println!("closures {:x} {:x}", f(1), f(2));
    println!("fold {:x}", fold(300, 1, &|x| x.wrapping_mul(0x1_0000_0000_0000_01b3).wrapping_add(7)));

    let text = "the quick brown fox jumps over the lazy dog while the other dog sleeps";
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in text.split(' ') {
        *counts.entry(word).or_insert(0) += 1;
        if word.len() > 4 {
            rest();
        }
    }
    let sorted: BTreeMap<_, _> = counts.iter().filter(|(_, &n)| n > 1).collect();
    println!("words {} repeated {:?}", counts.len(), sorted);

    let lazy = (1u32..)
        .map(|n| {
            rest();
            n * n
        })
        .filter(|n| n % 3 == 1)
        .scan(0u32, |sum, n| {
            *sum += n;
            Some(*sum)
        })
        .take_while(|&s| s < 200)
        .zip("abcdefghij".chars().rev());
    println!("lazy {:?}", lazy.collect::<Vec<_>>());

    {
        let _inner = Noted { name: "inner", log: log.clone() };
        let _second = Noted { name: "second", log: log.clone() };
    }
    println!("dropped {:?}, slept {}", log.borrow(), start.elapsed() > Duration::from_millis(30));

    if std::env::args().nth(1).as_deref() == Some("panic") {
        let empty: Vec<u8> = Vec::new();
        rest();
        println!("{}", empty[log.borrow().len()]); // aborts: a trap, as panic=abort does on this target
    }
    std::process::exit(5);
}
