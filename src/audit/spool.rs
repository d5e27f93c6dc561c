//! The waiting room on disk: entries that the store did not take, one JSON object per line, mode 0600, synced per batch.
//!
//! Bounded in bytes. Entries leave it in the order in which they came; the file shrinks when it is empty, or when
//! room is needed. How far it was emptied is not written down: after a crash the store itself tells, by the ids.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::{AuditEntry, AuditRecord};

/// The file of entries that wait.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    cap: u64,
    /// Bytes in the file.
    len: u64,
    /// Bytes at its head whose entries have left.
    gone: u64,
    waiting: u64,
    /// Whether it is known what the file holds; until then nothing is written to it.
    known: bool,
}

/// How many entries of a batch were kept; why the others were not.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) entries: usize,
    pub(super) problem: Option<String>,
}

/// Lines that were no entries, and went to another file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SetAside {
    pub(super) lines: u64,
    pub(super) path: PathBuf,
}

impl Spool {
    /// An empty spool that has not looked at its file.
    pub(super) fn new(path: PathBuf, cap: u64) -> Spool {
        Spool { path, cap, len: 0, gone: 0, waiting: 0, known: false }
    }

    /// Takes over what an earlier process left, or somebody else made of the file. Lines that are no entries, as a
    /// crash leaves them, are set aside. All of it waits again: which of it the store has, the ids tell.
    pub(super) fn take_over(&mut self) -> io::Result<Option<SetAside>> {
        (self.len, self.gone, self.waiting, self.known) = (0, 0, 0, false);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.known = true;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Scan { good, bad, ended } = scan(file)?;
        if bad > 0 || !ended {
            self.set_bad_lines_aside()?;
        }
        self.len = fs::metadata(&self.path)?.len();
        (self.waiting, self.known) = (good, true);
        Ok((bad > 0).then(|| SetAside { lines: bad, path: self.beside("bad") }))
    }

    /// The same for another file.
    pub(super) fn moved_to(&self, path: PathBuf) -> Spool {
        Spool::new(path, self.cap)
    }

    /// Entries that wait.
    pub(super) const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Whether it is known what the file holds.
    pub(super) const fn is_known(&self) -> bool {
        self.known
    }

    /// Adds as many of these as there is room for, and syncs them to the disk.
    pub(super) fn push(&mut self, entries: &[AuditEntry]) -> Kept {
        if !self.known {
            return Kept { entries: 0, problem: Some(format!("{} cannot be read", self.path.display())) };
        }
        let mut text = Vec::new();
        let (mut kept, mut problem) = (0, None);
        for entry in entries {
            let before = text.len();
            if let Err(error) = serde_json::to_writer(&mut text, entry) {
                problem = Some(error.to_string());
                break;
            }
            text.push(b'\n');
            if !self.has_room(text.len()) {
                text.truncate(before);
                problem = Some("the spool is full".to_owned());
                break;
            }
            kept += 1;
        }
        if let Err(error) = self.add(&text) {
            return Kept { entries: 0, problem: Some(format!("{}: {error}", self.path.display())) };
        }
        self.waiting += kept as u64;
        Kept { entries: kept, problem }
    }

    /// Up to `most` of the entries that came first.
    pub(super) fn peek(&self, most: usize) -> io::Result<Vec<AuditEntry>> {
        if self.waiting == 0 {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        for line in self.rest()?.lines().take(most) {
            entries.push(parse(line?.as_bytes()).ok_or_else(changed_by_others)?);
        }
        Ok(entries)
    }

    /// The first `entries` have left. An empty spool gives its room back.
    pub(super) fn advance(&mut self, entries: usize) -> io::Result<()> {
        let mut rest = self.rest()?;
        let mut line = Vec::new();
        for _ in 0..entries {
            line.clear();
            self.gone += rest.read_until(b'\n', &mut line)? as u64;
        }
        self.waiting = self.waiting.saturating_sub(entries as u64);
        if self.waiting == 0 {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            file.set_len(0)?;
            file.sync_data()?;
            (self.len, self.gone) = (0, 0);
        }
        Ok(())
    }

    /// Drops the entries up to the last one whose id is among `ids`: entries leave in order. Answers how many.
    pub(super) fn skip_past(&mut self, ids: &HashSet<String>) -> io::Result<usize> {
        let mut done = 0;
        for (index, line) in self.rest()?.lines().enumerate() {
            if parse(line?.as_bytes()).is_some_and(|entry| ids.contains(&entry.id)) {
                done = index + 1;
            }
        }
        self.advance(done)?;
        Ok(done)
    }

    /// Whether so many more bytes fit under the cap, once what has left is cut away.
    fn has_room(&self, bytes: usize) -> bool {
        (self.len - self.gone).saturating_add(bytes as u64) <= self.cap
    }

    fn add(&mut self, text: &[u8]) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.len.saturating_add(text.len() as u64) > self.cap {
            self.cut_what_left()?;
        }
        let fresh = self.len == 0;
        let mut file = open_private(&self.path)?;
        let added = file.write_all(text).and_then(|()| file.sync_data());
        if let Err(error) = added {
            // Half a line must not stand before whole ones.
            file.set_len(self.len)?;
            return Err(error);
        }
        self.len += text.len() as u64;
        if fresh {
            sync_folder(&self.path)?;
        }
        Ok(())
    }

    fn cut_what_left(&mut self) -> io::Result<()> {
        if self.gone == 0 {
            return Ok(());
        }
        let mut rest = self.rest()?;
        self.replace(|file| io::copy(&mut rest, file).map(|_| ()))?;
        (self.len, self.gone) = (self.len - self.gone, 0);
        Ok(())
    }

    fn set_bad_lines_aside(&self) -> io::Result<()> {
        let mut aside = open_private(&self.beside("bad"))?;
        let mut lines = BufReader::new(File::open(&self.path)?);
        self.replace(|file| {
            each_line(&mut lines, |line| match parse(line) {
                Some(_) => file.write_all(line.trim_ascii_end()).and_then(|()| file.write_all(b"\n")),
                None => aside.write_all(line).and_then(|()| aside.write_all(b"\n")),
            })
        })?;
        aside.sync_data()
    }

    /// Puts what `write` writes in the place of the file, whole or not at all.
    fn replace(&self, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let next = self.beside("next");
        let _ = fs::remove_file(&next); // left by a crash
        let mut file = open_private(&next)?;
        write(&mut file)?;
        file.sync_data()?;
        fs::rename(&next, &self.path)?;
        sync_folder(&self.path)
    }

    fn rest(&self) -> io::Result<BufReader<File>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.gone))?;
        Ok(BufReader::new(file))
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(end);
        name.into()
    }
}

/// The entry of a whole line, if it is one that the store can take.
fn parse(line: &[u8]) -> Option<AuditEntry> {
    let entry: AuditEntry = serde_json::from_slice(line).ok()?;
    AuditRecord::follow(0, &[0; 32], &entry).is_ok().then_some(entry)
}

/// What is in a file.
struct Scan {
    good: u64,
    bad: u64,
    /// Whether the last line has its end; a whole entry without it would run into the next one.
    ended: bool,
}

fn scan(file: impl Read) -> io::Result<Scan> {
    let mut scan = Scan { good: 0, bad: 0, ended: true };
    each_line(&mut BufReader::new(file), |line| {
        if parse(line).is_some() {
            scan.good += 1
        } else {
            scan.bad += 1
        }
        scan.ended = line.ends_with(b"\n");
        Ok(())
    })?;
    Ok(scan)
}

fn each_line(from: &mut impl BufRead, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        take(&line)?;
        line.clear();
    }
    Ok(())
}

fn changed_by_others() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the spool was changed by somebody else")
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Makes the file's name durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
