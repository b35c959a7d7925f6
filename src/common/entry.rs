//! The `main` of every program: parse the command line, run, and choose the exit code.

use std::io;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::common::diag;
use crate::common::program::{Generate, Program, Usage};
use crate::common::stdio_check;
use crate::common::{filter, generate, helper};

/// Parses the command line, runs the program, and reports how it ended.
pub fn main<P: Program>() -> ExitCode {
    if helper::is(filter::NAME) {
        return ExitCode::from(filter::help());
    }
    let command = generate::command::<P>();
    diag::set_program_name(command.get_name());
    let parsed = command.try_get_matches().and_then(|found| {
        let what = found.get_one::<Generate>("generate").copied();
        Ok((P::from_arg_matches(&found)?, what))
    });
    let (program, what) = match parsed {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            diag::log_lines(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
            return ExitCode::from(2);
        }
        Err(help) => return ended(help.print().context("cannot write to stdout")),
    };
    let result = match what {
        Some(what) => stdio_check::stdout().and_then(|()| generate::write::<P>(what)),
        None => program.run(),
    };
    ended(result)
}

/// The exit code; logs the error if there is one.
fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let error = explain_file_limit(error);
            diag::log_lines(&format!("{error:#}"));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Whether it failed only because the reader of stdout left.
fn reader_left(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(broken)
}

/// Whether a call failed because the process has too many open files.
pub fn is_file_limit(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains(&io::Error::from(Errno::MFILE).to_string())
}

/// Replaces an error about too many open files, however it arose, by one that says what to do.
fn explain_file_limit(error: anyhow::Error) -> anyhow::Error {
    if !is_file_limit(&error) {
        return error;
    }
    let limit =
        getrlimit(Resource::Nofile).current.map_or_else(|| "no".to_owned(), |limit| limit.to_string());
    anyhow!("cannot open enough files: the limit of this process is {limit}; raise it with `ulimit -n 1024`")
}
