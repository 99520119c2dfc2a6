use alloc::string::String;
use core::fmt;

/// Why an operation failed, or can't be. Later versions may have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The operation has not ended.
    Pending,
    /// There is no such operation.
    Unknown,
    /// Kind, name or body make no sense.
    Invalid,
    /// Too many operations, or too much data.
    Limit,
    /// The run was given no handler or module of that name.
    Denied,
    /// The handler says that it is of no use to try again; the child failed.
    Failed,
    /// The handler's time was up.
    Timeout,
    /// The operation was cancelled.
    Cancelled,
    /// All attempts of the handler failed.
    Exhausted,
    /// Not the operation's: the coroutine is to be cancelled, and waiting is over therefore.
    CoroutineCancelled,
    /// Not the operation's: the time of a [`timeout`](crate::timeout) is up.
    Elapsed,
    /// One that this crate doesn't know, by its number in hostabi/ABI.md.
    Other(i32),
}

impl Code {
    pub(crate) fn from_host(code: i32) -> Code {
        match code {
            1 => Code::Pending,
            2 => Code::Unknown,
            3 => Code::Invalid,
            4 => Code::Limit,
            5 => Code::Denied,
            6 => Code::Failed,
            7 => Code::Timeout,
            8 => Code::Cancelled,
            9 => Code::Exhausted,
            other => Code::Other(other),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::Pending => "pending",
            Code::Unknown => "unknown",
            Code::Invalid => "invalid",
            Code::Limit => "limit",
            Code::Denied => "denied",
            Code::Failed => "failed",
            Code::Timeout => "timeout",
            Code::Cancelled => "cancelled",
            Code::Exhausted => "exhausted",
            Code::CoroutineCancelled => "the coroutine is to be cancelled",
            Code::Elapsed => "the time is up",
            Code::Other(code) => return write!(f, "code {}", code),
        })
    }
}

/// How an operation failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    code: Code,
    operation: String,
    message: String,
}

impl Error {
    pub(crate) fn new(code: Code, operation: &str, message: String) -> Error {
        Error {
            code,
            operation: operation.into(),
            message,
        }
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Which operation failed, for people: "call send_email". Empty if it was none.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// For people: the handler's own where it gave one, else empty.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Error {
        Error::new(code, "", String::new())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.operation.is_empty() {
            write!(f, "{}: ", self.operation)?;
        }
        write!(f, "{}", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// The same as Display, for a `main` that returns one.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "std")]
impl std::error::Error for Error {}
