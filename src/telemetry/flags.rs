//! What makes a finished request worth a second look. The access log and the metrics both say it, so it is
//! decided here once.

use std::time::Duration;

use crate::model::access::AccessRecord;

const SLOW: Duration = Duration::from_secs(1);
const LARGE_UPLOAD: u64 = 10 << 20;

/// One reason to look twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    /// Took more than a second.
    Slow,
    /// Ended with a 5xx status.
    ServerError,
    /// Brought a body of more than 10 MiB.
    LargeUpload,
}

impl Flag {
    /// All of them, in the order in which they are written.
    pub(super) const ALL: [Flag; 3] = [Flag::Slow, Flag::ServerError, Flag::LargeUpload];

    /// Its name in log lines and labels.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Flag::Slow => "slow",
            Flag::ServerError => "server_error",
            Flag::LargeUpload => "large_upload",
        }
    }

    /// Whether it applies to `record`.
    pub(super) fn applies(self, record: &AccessRecord<'_>) -> bool {
        match self {
            Flag::Slow => record.duration > SLOW,
            Flag::ServerError => record.status >= 500,
            Flag::LargeUpload => record.bytes_in > LARGE_UPLOAD,
        }
    }
}
