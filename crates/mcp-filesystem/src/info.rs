//! What is known of a file without reading it.

use rustix::fs::{AtFlags, FileType, StatxFlags, StatxTimestamp, statx};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::Error;
use crate::files::Files;

impl Files {
    /// Returns size, times in UTC, kind and permissions, a line each.
    pub(crate) fn info(&self, path: &str) -> Result<String, Error> {
        let found = self.find(path)?;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let told = statx(&found.handle, "", AtFlags::EMPTY_PATH, wanted)
            .map_err(|fault| Error::of(path, fault))?;
        let born = StatxFlags::from_bits_retain(told.stx_mask).contains(StatxFlags::BTIME);
        let created = if born { date(&told.stx_btime) } else { "unknown".to_owned() };
        Ok(format!(
            "size: {}\ncreated: {created}\nmodified: {}\naccessed: {}\nisDirectory: {}\nisFile: {}\n\
             permissions: {:03o}",
            told.stx_size,
            date(&told.stx_mtime),
            date(&told.stx_atime),
            found.kind() == FileType::Directory,
            found.kind() == FileType::RegularFile,
            told.stx_mode & 0o777,
        ))
    }
}

/// Returns a time as JavaScript tells it, which is what the reference server does.
fn date(time: &StatxTimestamp) -> String {
    let format = format_description!(
        "[weekday repr:short] [month repr:short] [day] [year] [hour]:[minute]:[second] GMT+0000 (Coordinated Universal Time)"
    );
    OffsetDateTime::from_unix_timestamp(time.tv_sec)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
