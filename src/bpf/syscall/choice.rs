//! `--syscall` and `--except-syscall`: names to a choice for the kernel program.

use anyhow::Result;
use clap::Args;

use super::class::{Choice, MAY_WAIT, bit, bits};
use super::names::{NUMBERS, all};
use crate::common::program::Usage;

/// The options that choose system calls.
#[derive(Args, Clone, Debug, Default)]
pub struct Calls {
    /// Only these system calls, by name, those too that wait; 32-bit variants of the same name as well
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub syscall: Vec<String>,

    /// All but these system calls
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "syscall")]
    pub except_syscall: Vec<String>,
}

impl Calls {
    /// Which calls, and what the kernel program must know of each.
    ///
    /// # Errors
    /// [`Usage`] for a name that there is not, with the nearest one that there is.
    pub fn choice(&self) -> Result<Choice> {
        for (option, names) in [("--syscall", &self.syscall), ("--except-syscall", &self.except_syscall)] {
            names.iter().try_for_each(|name| known(option, name))?;
        }
        let listed = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
        let chosen = |name: &str| {
            (self.syscall.is_empty() || listed(&self.syscall, name)) && !listed(&self.except_syscall, name)
        };
        // What has no name yet is traced, unless names were asked for.
        let mut choice = [u8::from(self.syscall.is_empty()) * bit::CHOSEN; 2 * NUMBERS];
        for (abi, nr, name) in all() {
            let place = &mut choice[abi.offset() + nr as usize];
            *place = bits(name) | if chosen(name) { bit::CHOSEN } else { 0 };
        }
        Ok(choice)
    }

    /// Whether a call that waits by design, or may because of its file or its first argument, was asked for by name.
    pub fn names_waits(&self) -> bool {
        self.syscall.iter().any(|name| bits(name) & MAY_WAIT != 0)
    }
}

fn known(option: &str, name: &str) -> Result<()> {
    if all().any(|(.., known)| known == name) {
        return Ok(());
    }
    let nearest = all()
        .map(|(.., known)| (strsim::jaro_winkler(&name.to_lowercase(), known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.7);
    let advice = nearest.map_or(String::new(), |(_, known)| format!("; did you mean '{known}'?"));
    Err(Usage(format!("{option}: no system call is called '{name}'{advice}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(only: &[&str], except: &[&str]) -> Calls {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Calls { syscall: owned(only), except_syscall: owned(except) }
    }

    fn chosen(calls: &Calls) -> usize {
        calls.choice().unwrap().iter().filter(|bits| **bits & bit::CHOSEN != 0).count()
    }

    #[test]
    fn names_choose_in_both_tables() {
        assert_eq!(chosen(&calls(&[], &[])), 2 * NUMBERS);
        assert_eq!(chosen(&calls(&["read"], &[])), 2);
        assert_eq!(chosen(&calls(&[], &["read", "write"])), 2 * NUMBERS - 4);
        let waits = |name: &str| calls(&["openat", name], &[]).names_waits();
        assert!(waits("futex") && waits("read") && waits("writev") && waits("ipc") && !waits("pread64"));
    }

    #[test]
    fn a_wrong_name_has_a_suggestion() {
        let said = |name: &str| calls(&[], &[name]).choice().unwrap_err().to_string();
        assert_eq!(
            said("opennat"),
            "--except-syscall: no system call is called 'opennat'; did you mean 'openat'?"
        );
        assert!(said("READ").ends_with("did you mean 'read'?"));
        assert_eq!(said("123"), "--except-syscall: no system call is called '123'");
        assert!(calls(&[""], &[]).choice().unwrap_err().is::<Usage>());
    }
}
