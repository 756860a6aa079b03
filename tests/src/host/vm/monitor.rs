// SPDX-License-Identifier: GPL-2.0-only
//! QEMU's monitor (QMP): devices that come while the machine runs, as somebody would plug them in.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, Context as _, Result};
use serde_json::{json, Value};

/// QEMU answers at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A device that can be plugged in, by the name the guest asks for it by.
///
/// # Errors
/// When there is none of that name.
pub fn commands(name: &str) -> Result<Vec<Value>> {
    let disk =
        json!({"driver": "null-co", "node-name": "plugged", "size": 64 << 20, "read-zeroes": true});
    let add = |arguments: Value| json!({"execute": "device_add", "arguments": arguments});
    Ok(match name {
        "disk" => vec![
            json!({"execute": "blockdev-add", "arguments": disk}),
            add(json!({"driver": "nvme", "drive": "plugged", "serial": "plugged", "bus": "port8"})),
        ],
        "card" => vec![add(
            json!({"driver": "e1000e", "bus": "port9", "romfile": ""}),
        )],
        "external-card" => vec![add(
            json!({"driver": "e1000e", "bus": "port7", "romfile": ""}),
        )],
        _ => bail!("the guest asks for a device `{name}`, and there is none of that name"),
    })
}

/// Has QEMU execute `commands`, whose monitor listens at `socket`.
///
/// # Errors
/// When it cannot be reached, does not answer, or says that it failed.
pub fn execute(socket: &Path, commands: &[Value]) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot reach QEMU's monitor at {}", socket.display()))?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("cannot limit the wait for QEMU's monitor")?;
    let mut monitor = BufReader::new(stream);
    let greeting = json!({"execute": "qmp_capabilities"});
    for command in std::iter::once(&greeting).chain(commands) {
        writeln!(monitor.get_mut(), "{command}").context("cannot write to QEMU's monitor")?;
        answer(&mut monitor, command)?;
    }
    Ok(())
}

/// Waits for the answer to `command`: what QEMU greets with, and its events, are neither good nor bad.
fn answer(monitor: &mut BufReader<UnixStream>, command: &Value) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        let read = monitor.read_line(&mut line);
        if read.with_context(|| format!("QEMU does not answer to {command}"))? == 0 {
            bail!("QEMU's monitor closed before it answered to {command}");
        }
        let said: Value =
            serde_json::from_str(&line).with_context(|| format!("QEMU's monitor said {line:?}"))?;
        if let Some(error) = said.get("error") {
            bail!("QEMU answered to {command} with {error}");
        }
        if said.get("return").is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A monitor that says `lines`, one after each command.
    fn says(lines: [&'static str; 2]) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            for line in lines {
                let mut command = String::new();
                stream.read_line(&mut command).unwrap();
                stream.get_mut().write_all(line.as_bytes()).unwrap();
            }
        });
        let done = execute(&path, &commands("card").unwrap());
        server.join().unwrap();
        done
    }

    #[test]
    fn events_are_no_answers_and_errors_are() {
        let greeted = "{\"QMP\": {}}\n{\"return\": {}}\n";
        says([greeted, "{\"event\": \"X\"}\n{\"return\": {}}\n"]).unwrap();
        let error = says([greeted, "{\"error\": {\"desc\": \"no such bus\"}}\n"]).unwrap_err();
        assert!(error.to_string().contains("no such bus"), "{error}");
        let error = says([greeted, ""]).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
        assert!(commands("teapot").is_err());
    }
}
