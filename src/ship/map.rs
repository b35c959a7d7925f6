//! `--map` and `--preset`: turn each line of another program into records.

use super::journald;
use super::line::Line;
use crate::common::filter::{Error, Filter};

/// Maps lines, many at a time.
pub struct Map {
    program: Program,
    /// The lines that wait, and where each ends.
    lines: Vec<u8>,
    ends: Vec<usize>,
    longest: usize,
}

enum Program {
    Jq(Box<Filter>),
    Journald,
}

/// The presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// Entries of the systemd journal, as journalctl -o json prints them
    Journald,
}

impl Map {
    /// Maps by a jq program, whose outputs are lines of up to `longest` bytes.
    ///
    /// # Errors
    /// If it does not compile, or its process cannot be started.
    pub fn jq(code: &str, longest: usize) -> Result<Self, Error> {
        let filter = Filter::silent(code, longest)?;
        Ok(Self::new(Program::Jq(Box::new(filter)), longest))
    }

    /// Maps by a preset.
    pub fn preset(preset: Preset, longest: usize) -> Self {
        match preset {
            Preset::Journald => Self::new(Program::Journald, longest),
        }
    }

    fn new(program: Program, longest: usize) -> Self {
        Self { program, lines: Vec::new(), ends: Vec::new(), longest }
    }

    /// Adds a line to those that [`Map::run`] takes.
    pub fn push(&mut self, line: &[u8]) {
        if let Program::Jq(filter) = &mut self.program {
            filter.push(line);
        }
        self.lines.extend_from_slice(line);
        self.ends.push(self.lines.len());
    }

    /// Maps the lines that wait. Passes every line to `each`, with its outputs (each ends with a newline) or the reason
    /// why it is refused.
    pub fn run(&mut self, mut each: impl FnMut(&[u8], Result<&[u8], String>)) {
        // All answers first: the caller holds locks while it takes them.
        let (mut outputs, mut answers) = (Vec::new(), Vec::with_capacity(self.ends.len()));
        match &mut self.program {
            Program::Jq(filter) => {
                let longest = self.longest;
                let ran = filter.run(|answer| {
                    let start = outputs.len();
                    let checked = match answer.error {
                        Some(error) => Err(format!("--map: {}", String::from_utf8_lossy(error))),
                        None if answer.too_long > 0 => {
                            Err(format!("--map: an output is over {longest} bytes"))
                        }
                        None => objects(answer.outputs),
                    };
                    if checked.is_ok() {
                        outputs.extend_from_slice(answer.outputs);
                    }
                    answers.push(checked.map(|()| start..outputs.len()));
                    Ok(())
                });
                if let Err(error) = ran {
                    answers.resize(self.ends.len(), Err(format!("--map: {error:#}")));
                }
            }
            Program::Journald => {
                let mut line_start = 0;
                for end in &self.ends {
                    let start = outputs.len();
                    let mapped = journald::map(&self.lines[line_start..*end], &mut outputs);
                    line_start = *end;
                    answers.push(match mapped {
                        Ok(()) => {
                            outputs.push(b'\n');
                            Ok(start..outputs.len())
                        }
                        Err(error) => {
                            outputs.truncate(start);
                            Err(error)
                        }
                    });
                }
            }
        }
        let mut line_start = 0;
        for (end, answer) in self.ends.drain(..).zip(answers) {
            each(&self.lines[line_start..end], answer.map(|range| &outputs[range]));
            line_start = end;
        }
        self.lines.clear();
    }
}

/// Checks that each output is an object, so that the line can be refused as a whole.
fn objects(outputs: &[u8]) -> Result<(), String> {
    let mut lines = outputs.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.try_for_each(|line| match line.first() {
        Some(b'{') => Ok(()),
        _ => Line::parse(line).map(drop).map_err(|error| format!("--map: an output is {error}")),
    })
}
