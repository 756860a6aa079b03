// SPDX-License-Identifier: GPL-2.0-only
//! `bench` on a terminal: what is shown meanwhile, and that nothing of it is left.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{poll, PollFd, PollFlags};
use nix::pty::{openpty, Winsize};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::laptop;
use crate::support::Machine;

const WIDTH: usize = 80;

/// As much of a terminal as is needed: rows, a cursor, and a line that is full, after which the next character is on the next one.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    /// Up to [`WIDTH`]: then it stands behind the end of the line.
    column: usize,
    hidden: bool,
}

impl Screen {
    fn show(&mut self, text: &str) {
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.row += 1,
                '\x1b' => {
                    assert_eq!(rest.next(), Some('['), "{text:?}");
                    let mut parameters = String::new();
                    let end = loop {
                        match rest.next().unwrap() {
                            c if c.is_ascii_alphabetic() => break c,
                            c => parameters.push(c),
                        }
                    };
                    self.control(end, &parameters);
                }
                c => self.put(c),
            }
        }
    }

    fn control(&mut self, end: char, parameters: &str) {
        let count = parameters.parse().unwrap_or(1);
        match end {
            'A' => self.row -= count,
            'B' => self.row += count,
            'D' => self.column = self.column.min(WIDTH - 1).saturating_sub(count),
            'K' if parameters == "2" => self.line().clear(),
            'h' | 'l' if parameters == "?25" => self.hidden = end == 'l',
            'm' => {}
            _ => panic!("ESC [ {parameters} {end}"),
        }
    }

    fn line(&mut self) -> &mut Vec<char> {
        let wanted = self.rows.len().max(self.row + 1);
        self.rows.resize(wanted, Vec::new());
        &mut self.rows[self.row]
    }

    fn put(&mut self, c: char) {
        if self.column == WIDTH {
            (self.row, self.column) = (self.row + 1, 0);
        }
        let column = self.column;
        let line = self.line();
        line.resize(line.len().max(column + 1), ' ');
        line[column] = c;
        self.column += 1;
    }

    fn text(&self) -> String {
        let rows = self.rows.iter().map(|row| row.iter().collect::<String>());
        let rows: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }
}

/// A bench whose messages go to a terminal.
struct Bench {
    child: Child,
    terminal: File,
    /// What has come of a character that is not whole.
    torn: Vec<u8>,
    screen: Screen,
}

impl Bench {
    fn start(machine: &Machine, locale: &str) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: u16::try_from(WIDTH).unwrap(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).unwrap();
        let mut command = machine.command(&["bench", "--seconds", "60", "nvme0n1"]);
        command.env("LC_ALL", locale).env("TERM", "xterm");
        command.stdout(Stdio::null()).stderr(pair.slave);
        Self {
            child: command.spawn().unwrap(),
            terminal: File::from(pair.master),
            torn: Vec::new(),
            screen: Screen::default(),
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        self.torn.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.torn) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let whole: Vec<u8> = self.torn.drain(..whole).collect();
        self.screen.show(std::str::from_utf8(&whole).unwrap());
    }

    /// Goes on until the screen is as wanted when nothing more is there to be shown.
    fn until(&mut self, wanted: impl Fn(&str) -> bool) {
        let begin = Instant::now();
        let mut bytes = [0; 4096];
        loop {
            let text = self.screen.text();
            assert!(begin.elapsed() < Duration::from_secs(20), "{text}");
            let mut fds = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, 5u8).unwrap() == 0 {
                if wanted(&text) {
                    return;
                }
                continue;
            }
            // Fails when nobody has it open any more.
            let Ok(count) = self.terminal.read(&mut bytes) else {
                assert!(wanted(&text), "{text}");
                return;
            };
            self.show(&bytes[..count]);
        }
    }

    /// Ctrl-C: what the terminal shows of it, and the signal, as the shell's children get it.
    fn interrupt(&mut self) {
        self.terminal.write_all(b"\x03").unwrap();
        // The progress is drawn over it soon, so the screen need not show it when there is nothing more to read.
        let (mut printed, mut bytes) = (Vec::new(), [0; 4096]);
        while !printed.windows(2).any(|two| two == b"^C") {
            let count = self.terminal.read(&mut bytes).unwrap();
            printed.extend_from_slice(&bytes[..count]);
            self.show(&bytes[..count]);
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
    }
}

#[test]
fn nothing_is_left_of_the_progress() {
    for (locale, ascii) in [("C.UTF-8", false), ("C", true)] {
        let machine = laptop().with_module();
        let mut bench = Bench::start(&machine, locale);
        bench.until(|text| text.contains("measurements done"));
        let text = bench.screen.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(text.is_ascii(), ascii, "{text}");
        bench.interrupt();
        bench.until(|text| text.contains("stopped by SIGINT"));
        let text = bench.screen.text();
        assert!(text.starts_with("iommuctl: stopped by SIGINT; "), "{text}");
        assert!(
            !text.contains("^C") && !text.contains("measurements"),
            "{text}"
        );
        assert!(!bench.screen.hidden);
        assert_eq!(bench.child.wait().unwrap().code(), Some(1));
    }
}
