//! Errors of calls, and what may be done about them.

use std::fmt;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The header that carries the verdict beside gRPC's code.
const VERDICT: &str = "mainstay-verdict";
/// The header of a *not now* that another process of the same role need not share.
const ELSEWHERE: &str = "mainstay-elsewhere";

/// What a failed call means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Refused for good: nothing happened, and the same call will be refused again.
    No,
    /// Nothing happened; the same call may succeed later or elsewhere.
    NotNow,
    /// It may have happened, may not, or may yet.
    Unknown,
}

impl Verdict {
    /// Its name on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::No => "no",
            Verdict::NotNow => "not-now",
            Verdict::Unknown => "unknown",
        }
    }

    fn parse(text: &str) -> Option<Verdict> {
        [Verdict::No, Verdict::NotNow, Verdict::Unknown].into_iter().find(|verdict| verdict.as_str() == text)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::No => "refused",
            Verdict::NotNow => "not now",
            Verdict::Unknown => "outcome unknown",
        })
    }
}

/// A call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{verdict}: {reason}")]
pub struct Error {
    /// What it means.
    pub verdict: Verdict,
    /// Why, for people.
    pub reason: String,
}

impl Error {
    /// Refused for good.
    pub fn no(reason: impl fmt::Display) -> Error {
        Error { verdict: Verdict::No, reason: reason.to_string() }
    }

    /// Nothing happened; later perhaps.
    pub fn not_now(reason: impl fmt::Display) -> Error {
        Error { verdict: Verdict::NotNow, reason: reason.to_string() }
    }

    /// Nobody knows yet.
    pub fn unknown(reason: impl fmt::Display) -> Error {
        Error { verdict: Verdict::Unknown, reason: reason.to_string() }
    }
}

/// *Not now*, and not because of what was asked: the connection could not be made, or the process starts or leaves.
/// Another process of the same role may be asked at once.
pub(crate) fn elsewhere(why: &'static str, reason: impl fmt::Display) -> Status {
    let mut status = Status::from(Error::not_now(reason));
    status.metadata_mut().insert(ELSEWHERE, MetadataValue::from_static(why));
    status
}

/// Whether what came back says that nothing happened and that another process of the same role may be asked at once: by
/// the headers of a response, or the metadata of a [`Status`].
pub fn may_go_elsewhere(headers: &http::HeaderMap) -> bool {
    headers.contains_key(ELSEWHERE)
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let code = match error.verdict {
            Verdict::No => Code::FailedPrecondition,
            Verdict::NotNow => Code::Unavailable,
            Verdict::Unknown => Code::Unknown,
        };
        let mut status = Status::new(code, error.reason);
        status.metadata_mut().insert(VERDICT, MetadataValue::from_static(error.verdict.as_str()));
        status
    }
}

impl From<&Status> for Verdict {
    fn from(status: &Status) -> Verdict {
        let told = status.metadata().get(VERDICT).and_then(|value| value.to_str().ok()).and_then(Verdict::parse);
        told.unwrap_or_else(|| match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Verdict::No,
            Code::ResourceExhausted => Verdict::NotNow,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Verdict::Unknown,
        })
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        let verdict = Verdict::from(&status);
        let mut reason = status.message().to_owned();
        let mut source = std::error::Error::source(&status);
        while let Some(error) = source {
            let text = error.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = error.source();
        }
        Error { verdict, reason }
    }
}
