//! What varies from run to run, or between machines, is made equal on both sides of a comparison.
//!
//! Orders that the reference draws by lot are sorted on its side alone where ours are fixed (members, tags, keys, the
//! fields of an event), and on both where the network decides (acknowledgements, answers).

/// Text as it is; bytes that are none as `\xNN`.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// What was recorded, with the event loop where ours names it: in an agent's banner, and in `info`.
pub(super) fn with_runtime(recorded: &[u8], runtime: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for line in recorded.split_inclusive(|&byte| byte == b'\n') {
        text.extend_from_slice(line);
        if line.starts_with(b"                        Profile: ") {
            text.extend(format!("                        Runtime: {runtime}\n").bytes());
        } else if line.starts_with(b"\tcpu_count = ") {
            text.extend(format!("\tevent_loop = {runtime}\n").bytes());
        } else if line.starts_with(b"    \"cpu_count\": ") {
            text.extend(format!("    \"event_loop\": \"{runtime}\",\n").bytes());
        }
    }
    text
}

/// What the reference printed, and what ours did, for this command line.
pub(super) fn settled(line: &str, reference: &str, ours: &str) -> (String, String) {
    let (reference, ours) = (&lookups(&with_last_newline(reference)), &lookups(&with_last_newline(ours)));
    let both = |rule: fn(&str) -> String| (rule(reference), rule(ours));
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let command = words.nth(1).unwrap_or_default();
    if reference.starts_with("Usage: serf [--version]") {
        return both(command_list);
    }
    if reference.contains("\nAgent Protocol: ") {
        return both(|text| masked(text, |line| !line.starts_with("Agent Protocol")));
    }
    match command {
        "keygen" => {
            both(
                |text| if text.len() == 45 && text.ends_with("=\n") { "<key>\n".into() } else { text.into() },
            )
        }
        "members" => (members(reference), text_of(ours.lines().map(str::trim_end))),
        "keys" => (sorted_rows(reference), ours.clone()),
        "query" => both(answers),
        "info" => (numbers(reference), numbers(&without_our_sections(ours))),
        "rtt" | "reachability" => both(|text| answers(&text.replace(|c: char| c.is_ascii_digit(), "N"))),
        "join" => both(source_ports),
        "monitor" => both(log_and_events),
        "agent" => both(agent),
        _ => (reference.clone(), ours.clone()),
    }
}

/// The synopses are ours, and so are some commands; the layout is checked.
fn command_list(text: &str) -> String {
    const OURS: [&str; 1] = ["validate"];
    let is_ours = |line: &&str| OURS.iter().any(|name| line.trim_start().starts_with(name));
    let line = |line: &str| match line.strip_prefix("    ") {
        Some(row) => {
            let name = row.split(' ').next().unwrap_or_default();
            let is_aligned =
                row.len() > 16 && row[name.len()..16].trim().is_empty() && !row[16..].starts_with(' ');
            let is_marker = row[name.len()..].starts_with("    <<one-line synopsis>>");
            format!("    {name} {}\n", if is_aligned || is_marker { "…" } else { "(not aligned)" })
        }
        None => format!("{line}\n"),
    };
    text.lines().filter(|line| !is_ours(line)).map(line).collect()
}

fn masked(text: &str, is_masked: impl Fn(&str) -> bool) -> String {
    text.lines()
        .map(|line| if is_masked(line) { "<masked>\n".to_owned() } else { format!("{line}\n") })
        .collect()
}

/// Sorted by name, tags too; white space at line ends goes.
fn members(text: &str) -> String {
    if text.contains("{\n") {
        return members_in_json(text);
    }
    let row = |line: &str| {
        let cells = line.trim_end().split("  ").map(|cell| {
            let text = cell.trim_start();
            let mut tags: Vec<&str> = text.split(',').collect();
            if tags.iter().all(|tag| tag.contains('=')) {
                tags.sort_unstable();
            }
            format!("{}{}", &cell[..cell.len() - text.len()], tags.join(","))
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    let (notices, mut rows): (Vec<String>, Vec<String>) =
        text.lines().map(row).partition(|line| line.starts_with("Deprecation"));
    rows.sort();
    text_of([notices, rows].concat())
}

fn members_in_json(text: &str) -> String {
    let Some((head, rest)) = text.split_once("    {\n") else { return text.to_owned() };
    let Some((body, tail)) = rest.rsplit_once("    }\n") else { return text.to_owned() };
    let mut blocks: Vec<&str> = body.split("    },\n    {\n").collect();
    blocks.sort_unstable();
    format!("{head}    {{\n{}    }}\n{tail}", blocks.join("    },\n    {\n"))
}

/// The rows of a table, in order; lines of progress and errors stay where they are.
fn sorted_rows(text: &str) -> String {
    let is_row = |line: &&str| line.starts_with("failed:") || line.ends_with(']');
    let mut rows: Vec<&str> = text.lines().filter(is_row).collect();
    rows.sort_unstable();
    let mut rows = rows.into_iter();
    let line = |line| if is_row(&line) { rows.next().unwrap_or_default() } else { line };
    text_of(text.lines().map(line))
}

/// Acknowledgements and answers come in the order of the network.
fn answers(text: &str) -> String {
    let is_start = |line: &str| {
        let line = line.trim_start();
        line.starts_with("Ack from '") || line.starts_with("Response from '") || line.starts_with('"')
    };
    let ends =
        |line: &str| line.starts_with("Total ") || line.starts_with("Query time") || line.starts_with("  ]");
    let (mut head, mut entries, mut tail) = (String::new(), Vec::<String>::new(), String::new());
    for line in text.lines() {
        let text = format!("{}\n", line.trim_end_matches(','));
        if !tail.is_empty() || ends(line) {
            tail.push_str(&text);
        } else if is_start(line) && !line.contains("Acks") && !line.contains("Responses") {
            entries.push(text);
        } else {
            entries.last_mut().unwrap_or(&mut head).push_str(&text);
        }
    }
    entries.sort();
    head + &entries.concat() + &tail
}

/// Numbers that depend on the machine, on what happened before, or on chance.
fn numbers(text: &str) -> String {
    const VARYING: [&str; 12] = [
        "arch",
        "cpu_count",
        "event_queue",
        "event_time",
        "goroutines",
        "health_score",
        "intent_queue",
        "max_procs",
        "member_time",
        "query_queue",
        "query_time",
        "version",
    ];
    let key = |line: &str| {
        line.trim_start().trim_start_matches('"').split([' ', '"']).next().unwrap_or("").to_owned()
    };
    let line = |line: &str| {
        let key = key(line);
        if VARYING.contains(&&*key) { format!("{key} <varies>\n") } else { format!("{line}\n") }
    };
    text.lines().map(line).collect()
}

/// What ours tells besides.
fn without_our_sections(text: &str) -> String {
    const OURS: [&str; 2] = ["dropped", "handlers"];
    let mut is_ours = false;
    let mut kept = String::new();
    for line in text.lines() {
        let is_text = line.ends_with(':') && !line.starts_with('\t');
        let is_json = line.starts_with("  \"") && line.ends_with('{');
        if is_text || is_json {
            let name = line.trim_start().trim_start_matches('"').split([':', '"']).next().unwrap_or_default();
            is_ours = OURS.contains(&name);
        }
        if !is_ours {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// What follows can count on whole lines; where there was none at the end, this is told.
fn with_last_newline(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}<no newline>\n") }
}

/// These lines, each with its end.
fn text_of<Line: AsRef<str>>(lines: impl IntoIterator<Item = Line>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    text
}

/// How the machine says that a name is unknown.
fn lookups(text: &str) -> String {
    let line = |line: &str| match line.split_once("lookup ") {
        Some((before, rest)) => {
            let name = rest.split([' ', ':']).next().unwrap_or_default();
            format!("{before}lookup {name}: <unknown>\n")
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Ports that the system chose.
fn source_ports(text: &str) -> String {
    let mut parts = text.split(':');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let is_chosen = part[..digits].parse::<u16>().is_ok_and(|port| port >= 32768);
        result.push(':');
        result.push_str(if is_chosen { "<port>" } else { &part[..digits] });
        result.push_str(&part[digits..]);
    }
    result
}

/// A log line without its time.
fn without_time(line: &str) -> String {
    let text = line.trim_start();
    let indent = &line[..line.len() - text.len()];
    match text.split_once(" [") {
        Some((time, rest)) if time.len() == 19 && time.as_bytes()[4] == b'/' => {
            format!("{indent}<time> [{rest}")
        }
        _ => line.to_owned(),
    }
}

/// Log lines without their times, and events with their fields sorted; all in one order.
fn log_and_events(text: &str) -> String {
    let mut entries: Vec<Vec<String>> = Vec::new();
    for line in source_ports(text).lines().map(without_time) {
        match entries.last_mut() {
            Some(entry) if line.starts_with('\t') => entry.push(line),
            _ => entries.push(vec![line]),
        }
    }
    entries.retain(|entry| !is_chance(&entry[0]));
    for entry in &mut entries {
        entry[1..].sort();
    }
    entries.sort();
    text_of(entries.concat())
}

/// What an agent says of itself in its order, then its log lines in one order.
fn agent(text: &str) -> String {
    let (mut said, mut logged) = (Vec::new(), Vec::new());
    let mut is_logged = false;
    for line in source_ports(text).lines().map(without_time) {
        if line.starts_with("    <time> [") {
            is_logged = true;
            logged.push(vec![line]);
        } else if line.starts_with("==> ") || !is_logged {
            is_logged = false;
            said.push(vec![line]);
        } else {
            logged.last_mut().expect("a line was logged").push(line);
        }
    }
    logged.retain(|entry| !is_chance(&entry[0]));
    logged.sort();
    logged.dedup_by(|next, one| next == one && is_repeated(&one[0]));
    // Metrics, if an interval of ten seconds has just ended.
    said.retain(|entry| !entry[0].contains(" UTC]["));
    format!("{}{}", text_of(said.concat()), text_of(logged.concat()))
}

/// Log lines that come once or more: each packet shows the same conflict, and an event can be delivered in parts.
fn is_repeated(line: &str) -> bool {
    const REPEATED: [&str; 4] = [
        "Conflicting address for",
        "Name conflict for",
        "Node name conflicts with",
        "Received event: member-",
    ];
    REPEATED.iter().any(|part| line.contains(part))
}

/// Log lines that come or not, or more than once, as the moment has it.
fn is_chance(line: &str) -> bool {
    const CHANCE: [&str; 12] = [
        "[WARN] memberlist: did not run for",
        "[ERR] memberlist: Failed fallback ping",
        "[INFO] memberlist: Suspect ",
        "[INFO] memberlist: Marking ",
        "[WARN] memberlist: Refuting ",
        "[WARN] agent: Serf shutdown detected, quitting",
        "[ERR] Error writing payload: ",
        "[WARN] serf: reply for non-running query",
        "[DEBUG] memberlist: ",
        "[DEBUG] serf: message",
        "[INFO] agent.ipc: Accepted client",
        // A change within a second of it takes its place.
        "[INFO] agent: Received event: member-join",
    ];
    CHANCE.iter().any(|part| line.contains(part))
}
