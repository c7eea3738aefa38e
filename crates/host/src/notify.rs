//! The service manager that started the process: where it listens, its words (`sd_notify(3)`), and whether its journal
//! reads standard output.
//!
//! What it is told, and when, is the agent's to decide; a thread of [`sinks`](crate::sinks) tells it. The library
//! knows the words, the watchdog's variables and the clock. It does not know names in the abstract namespace and
//! waits for as long as the manager takes nothing, so the socket is ours.
//!
//! Invariant: the environment is only read. It cannot be changed safely while there are threads, so children are
//! started without [`VARIABLES`].

use crate::limits;
use nix::sys::stat::fstat;
use sd_notify::NotifyState;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use villein_agent::config;
use villein_agent::io::ServiceState;
use villein_rpc::system::os_words;

/// Where the service manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Which stream the journal reads.
const JOURNAL: &str = "JOURNAL_STREAM";

/// The variables that are for this process and not for its children, whose output is the agent's to read and not the
/// journal's.
pub const VARIABLES: [&str; 4] = [SOCKET, JOURNAL, "WATCHDOG_PID", "WATCHDOG_USEC"];

/// A service manager that wants to hear of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceManager {
    /// Where it listens: a path, or `@` and a name in the abstract namespace.
    pub socket: OsString,
    /// Without a sign of life for so long it restarts the process.
    pub watchdog: Option<Duration>,
}

impl ServiceManager {
    /// What of it concerns the agent.
    pub fn wishes(&self) -> config::ServiceManager {
        config::ServiceManager { watchdog: self.watchdog }
    }
}

/// Who the environment says has started this process and wants to hear of it.
pub fn service_manager() -> Option<ServiceManager> {
    let socket = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty())?;
    let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
    Some(ServiceManager { socket, watchdog })
}

/// Whether standard output is the journal. The variable alone proves nothing: whoever redirects the output leaves it as it
/// is.
pub fn journal_reads_output() -> bool {
    std::env::var_os(JOURNAL).is_some_and(|name| is_stream(&name, io::stdout()))
}

/// Whether `name` is this file's: `DEVICE:INODE`, both in decimal (`systemd.exec(5)`).
fn is_stream(name: &OsStr, file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|stat| name == format!("{}:{}", stat.st_dev, stat.st_ino).as_str())
}

/// Opens the way to a service manager; `Err` is the reason for the operator.
pub(crate) fn connect(name: &OsStr) -> Result<UnixDatagram, String> {
    let failed = |error: &io::Error| format!("{}: {}", name.display(), os_words(error));
    let addr = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => {
            let name = name.display();
            return Err(format!("{SOCKET} is '{name}', which is no path from the root and no @NAME"));
        }
    };
    let connected = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&addr?)?;
        socket.set_write_timeout(Some(limits::SINK_PATIENCE))?;
        Ok(socket)
    };
    connected().map_err(|error| failed(&error))
}

/// One message that says all of it.
pub(crate) fn text(states: &[ServiceState]) -> String {
    let mut text = String::new();
    let mut put = |state: NotifyState<'_>| writeln!(text, "{state}").expect("a String takes any text");
    for state in states {
        match *state {
            ServiceState::Ready => put(NotifyState::Ready),
            ServiceState::Reloading => {
                put(NotifyState::Reloading);
                // Without a clock the manager waits in vain for the end of the reload, and says so.
                if let Ok(now) = NotifyState::monotonic_usec_now() {
                    put(now);
                }
            }
            ServiceState::Stopping { leaves } => {
                put(NotifyState::Stopping);
                // Otherwise the manager goes on showing the members.
                put(NotifyState::Status(if leaves { "leaving the cluster" } else { "stopping" }));
            }
            ServiceState::Patience(time) => {
                let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
                put(NotifyState::ExtendTimeoutUsec(time));
            }
            ServiceState::Members { alive, failed } => {
                put(NotifyState::Status(&format!("{alive} alive, {failed} failed")));
            }
            ServiceState::Watchdog => put(NotifyState::Watchdog),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Folder;
    use crate::inbox::{Arrival, inbox};
    use crate::outlets::Outlets;
    use crate::sinks::Sinks;
    use nix::time::{ClockId, clock_gettime};
    use std::os::unix::net::UnixStream;
    use villein_agent::io::Sink;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn outlets(socket: impl Into<OsString>, inbox: crate::inbox::Sender) -> Outlets {
        let manager = ServiceManager { socket: socket.into(), watchdog: None };
        let sinks = Sinks { service_manager: Some(manager), ..Sinks::default() };
        Outlets::new(None, sinks, inbox).expect("no thread is needed yet")
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 500];
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
        let length = socket.recv(&mut buffer).expect("it arrives");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn what_is_told_at_once_is_one_message() {
        let members = ServiceState::Members { alive: 3, failed: 1 };
        assert_eq!(text(&[ServiceState::Ready, members]), "READY=1\nSTATUS=3 alive, 1 failed\n");
        assert_eq!(text(&[ServiceState::Watchdog]), "WATCHDOG=1\n");
        let patience = ServiceState::Patience(Duration::from_millis(18_500));
        assert_eq!(
            text(&[ServiceState::Stopping { leaves: true }, patience]),
            "STOPPING=1\nSTATUS=leaving the cluster\nEXTEND_TIMEOUT_USEC=18500000\n"
        );
        assert_eq!(text(&[ServiceState::Stopping { leaves: false }]), "STOPPING=1\nSTATUS=stopping\n");
        let endless = text(&[ServiceState::Patience(Duration::MAX)]);
        assert_eq!(endless, format!("EXTEND_TIMEOUT_USEC={}\n", u32::MAX));
    }

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        let (ours, other) = UnixStream::pair().expect("sockets can be made");
        let name = |stream: &UnixStream| {
            let stat = fstat(stream).expect("it is open");
            OsString::from(format!("{}:{}", stat.st_dev, stat.st_ino))
        };
        assert!(is_stream(&name(&ours), &ours));
        let mut longer = name(&ours);
        longer.push("0");
        for wrong in [name(&other), longer, "".into(), ":".into(), "0:0".into(), "stdout".into()] {
            assert!(!is_stream(&wrong, &ours), "{}", wrong.display());
        }
    }

    /// The manager compares it with its own reading at the time of its wish.
    #[test]
    fn a_reload_is_told_with_the_time_of_the_machine() {
        let reading = || {
            let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is a clock"));
            now.as_micros()
        };
        let before = reading();
        let told = text(&[ServiceState::Reloading]);
        let after = reading();
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("both are told");
        let time: u128 = time.trim_end().parse().expect("a number");
        assert!((before..=after).contains(&time), "{before} {time} {after}");
    }

    #[test]
    fn both_kinds_of_sockets_are_reached() {
        let folder = Folder::new();
        let name = format!("villein-notify-{}", std::process::id());
        let hidden = SocketAddr::from_abstract_name(&name).expect("it is short");
        let by_name = UnixDatagram::bind_addr(&hidden).expect("the name is ours");
        let by_path = UnixDatagram::bind(folder.at("n")).expect("the directory can be written");
        let (sender, mut inbox) = inbox();
        for (socket, manager) in
            [(OsString::from(format!("@{name}")), by_name), (folder.at("n").into(), by_path)]
        {
            let mut outlets = outlets(socket, sender.clone());
            assert_eq!(outlets.notify(&[ServiceState::Ready]), None);
            assert_eq!(outlets.notify(&[ServiceState::Watchdog]), None);
            outlets.finish();
            assert_eq!([received(&manager), received(&manager)], ["READY=1\n", "WATCHDOG=1\n"]);
        }
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn a_manager_that_is_not_reached_is_told() {
        let folder = Folder::new();
        let absent = folder.at("n").into_os_string();
        let cases = [
            (absent.clone(), format!("{}: no such file or directory", absent.display())),
            ("n".into(), "NOTIFY_SOCKET is 'n', which is no path from the root and no @NAME".to_owned()),
            (
                "vsock:2:9".into(),
                "NOTIFY_SOCKET is 'vsock:2:9', which is no path from the root and no @NAME".to_owned(),
            ),
        ];
        for (socket, why) in cases {
            let (sender, mut inbox) = inbox();
            let mut outlets = outlets(socket, sender);
            assert_eq!(outlets.notify(&[ServiceState::Ready]), None);
            outlets.finish();
            assert_eq!(inbox.take(), Some(Arrival::SinkFailed { sink: Sink::ServiceManager, why }));
        }
    }

    /// Whoever waited here for it would wait in vain, and lose what waits too long.
    #[test]
    fn a_manager_that_takes_nothing_is_not_waited_for() {
        const MESSAGES: usize = 600;
        let folder = Folder::new();
        let manager = UnixDatagram::bind(folder.at("n")).expect("the directory can be written");
        let (sender, _inbox) = inbox();
        let mut outlets = outlets(folder.at("n"), sender);
        for alive in 0..MESSAGES {
            outlets.notify(&[ServiceState::Members { alive, failed: 0 }]);
        }
        for alive in 0..MESSAGES {
            assert_eq!(received(&manager), format!("STATUS={alive} alive, 0 failed\n"));
        }
    }

    #[test]
    fn an_agent_without_a_manager_has_nobody_to_tell() {
        let (sender, mut inbox) = inbox();
        let mut outlets = Outlets::new(None, Sinks::default(), sender).expect("no thread is needed");
        assert_eq!(outlets.notify(&[ServiceState::Ready]), None);
        outlets.finish();
        assert_eq!(inbox.take(), None);
    }
}
