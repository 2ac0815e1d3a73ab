use super::*;

/// Reads `text` as the file `f.toml`.
fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("f.toml"), text.as_bytes())
}

/// Checks that `text` is refused with exactly these lines.
#[track_caller]
fn refused(text: &str, lines: &[&str]) {
    match parse(text) {
        Ok(config) => panic!("taken: {config:?}"),
        Err(error) => assert_eq!(error.to_string(), lines.join("\n")),
    }
}

/// Checks that `text` is taken, and that it changes the defaults as `change` does.
#[track_caller]
fn taken(text: &str, change: impl FnOnce(&mut Config)) {
    let mut expected = Config::default();
    change(&mut expected);
    match parse(text) {
        Ok(config) => assert_eq!(config, expected),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_empty_file_means_the_defaults() {
    taken("", |_| {});
    taken("[pinhole]\n[policy]\n", |_| {});
}

#[test]
fn the_sample_is_the_defaults_with_every_key() {
    let sample = include_str!("../../systemd/ftpalg.toml");
    taken(sample, |_| {});
    let table: toml::Table = sample.parse().unwrap();
    let mut written: Vec<&str> = table.keys().map(String::as_str).collect();
    let mut known = keys::TOP.to_vec();
    written.sort_unstable();
    known.sort_unstable();
    assert_eq!(written, known);
    for (name, keys) in [("pinhole", keys::PINHOLE), ("policy", keys::POLICY), ("metrics", keys::METRICS)] {
        let mut written: Vec<&str> = table[name].as_table().unwrap().keys().map(String::as_str).collect();
        let mut known = keys.to_vec();
        written.sort_unstable();
        known.sort_unstable();
        assert_eq!(written, known, "[{name}]");
    }
}

#[test]
fn every_key_is_read() {
    let text = r#"
        control-ports = [21, 2121]
        queue = 65534
        workers = 2
        when-down = "drop"
        accept-in = ["ip fw-1 DOCKER-USER", " ip6  fw  in "]
        mark = "0x80000000"
        state-dir = "/var/lib/ftpalg"
        control-socket = "/run/other.sock"
        [pinhole]
        timeout = 5
        ports = "50000 - 50015"
        [policy]
        require-login = false
        allow-third-party = ["192.0.2.0/24", "192.0.2.1", "2001:db8::1", "0.0.0.0/0"]
        [metrics]
        listen = "[::1]:12121"
    "#;
    let chain = |family: &str, table: &str, chain: &str| ChainName {
        family: family.to_owned(),
        table: table.to_owned(),
        chain: chain.to_owned(),
    };
    let expected = Config {
        control_ports: vec![21, 2121],
        queue: 65534,
        workers: 2,
        when_down: WhenDown::Drop,
        accept_in: vec![chain("ip", "fw-1", "DOCKER-USER"), chain("ip6", "fw", "in")],
        mark: 0x8000_0000,
        state_dir: "/var/lib/ftpalg".into(),
        control_socket: "/run/other.sock".into(),
        pinhole_timeout: Duration::from_secs(5),
        pinhole_ports: 50000..=50015,
        require_login: false,
        allow_third_party: ["192.0.2.0/24", "192.0.2.1/32", "2001:db8::1/128", "0.0.0.0/0"]
            .map(|network| network.parse().unwrap())
            .to_vec(),
        metrics_listen: Some("[::1]:12121".parse().unwrap()),
    };
    taken(text, |config| *config = expected);
    taken("accept-in = []", |config| config.accept_in.clear());
    taken("mark = 0x0020_0001\n", |config| config.mark = 0x0020_0001);
    taken("mark = 1", |config| config.mark = 1);
    taken("queue = 0\nworkers = 64", |config| (config.queue, config.workers) = (0, 64));
    taken("queue = 65535", |config| config.queue = 65535);
}

#[test]
fn control_ports() {
    let port = "expected a TCP port from 1 to 65535: write it as in control-ports = [21, 2121]";
    refused("control-ports = [0]", &[&format!("f.toml:1:18: control-ports: found 0, {port}")]);
    refused("control-ports = [21, 65536]", &[&format!("f.toml:1:22: control-ports: found 65536, {port}")]);
    refused("control-ports = [21, -1]", &[&format!("f.toml:1:22: control-ports: found -1, {port}")]);
    refused("control-ports = [\"ftp\"]", &[&format!("f.toml:1:18: control-ports: found \"ftp\", {port}")]);
    refused(
        "control-ports = 21",
        &["f.toml:1:17: control-ports: found 21, expected a list of TCP ports: \
           write it as in control-ports = [21, 2121]"],
    );
    refused(
        "control-ports = []",
        &["f.toml:1:17: control-ports: found [], expected at least one TCP port: \
           write it as in control-ports = [21, 2121]"],
    );
    refused(
        "# ports\ncontrol-ports = [\n  21,\n  2121,\n  21,\n]",
        &["f.toml:5:3: control-ports: found 21 a second time, expected each entry once: \
           remove one of the two"],
    );
}

#[test]
fn queue_and_workers() {
    let queue = "expected a queue number from 0 to 65535: write it as in queue = 2121";
    refused("queue = 65536", &[&format!("f.toml:1:9: queue: found 65536, {queue}")]);
    refused("queue = -1", &[&format!("f.toml:1:9: queue: found -1, {queue}")]);
    refused(
        "queue = 99999999999999999999",
        &[&format!("f.toml:1:9: queue: found 99999999999999999999, {queue}")],
    );
    refused("queue = \"2121\"", &[&format!("f.toml:1:9: queue: found \"2121\", {queue}")]);
    let workers = "expected a number of threads from 1 to 64: \
                   write at most the number of this machine's cores, as in workers = 1";
    refused("workers = 0", &[&format!("f.toml:1:11: workers: found 0, {workers}")]);
    refused("workers = 65", &[&format!("f.toml:1:11: workers: found 65, {workers}")]);
    refused("workers = 1.5", &[&format!("f.toml:1:11: workers: found 1.5, {workers}")]);
}

#[test]
fn the_last_queue_must_exist() {
    refused(
        "queue = 65535\nworkers = 2",
        &["f.toml:2:11: workers: found 2 workers on the queues 65535 to 65536, \
           expected the last queue to be at most 65535: lower queue or workers"],
    );
}

#[test]
fn when_down() {
    let rest = r#"expected "pass" or "drop": write it as in when-down = "pass""#;
    refused("when-down = \"wait\"", &[&format!("f.toml:1:13: when-down: found \"wait\", {rest}")]);
    refused("when-down = true", &[&format!("f.toml:1:13: when-down: found true, {rest}")]);
}

#[test]
fn accept_in() {
    let mend = r#"write it as in accept-in = ["inet filter forward"], or [] to write the rule yourself"#;
    let rest = format!(r#"expected "FAMILY TABLE CHAIN", the family inet, ip or ip6: {mend}"#);
    for bad in [
        "forward",
        "filter forward",
        "inet filter forward x",
        "bridge filter forward",
        "inet fil;ter forward",
    ] {
        refused(
            &format!("accept-in = [\"{bad}\"]"),
            &[&format!("f.toml:1:14: accept-in: found \"{bad}\", {rest}")],
        );
    }
    refused("accept-in = [1]", &[&format!("f.toml:1:14: accept-in: found 1, {rest}")]);
    refused(
        "accept-in = \"inet filter forward\"",
        &[&format!(
            "f.toml:1:13: accept-in: found \"inet filter forward\", expected a list of chains: {mend}"
        )],
    );
    refused(
        "accept-in = [\"inet ftpalg to_server\"]",
        &[&format!(
            "f.toml:1:14: accept-in: found \"inet ftpalg to_server\", \
             expected a chain of your own firewall, not of ftpalg's table: {mend}"
        )],
    );
    refused(
        "accept-in = [\"inet filter forward\", \"inet filter  forward\"]",
        &["f.toml:1:37: accept-in: found \"inet filter  forward\" a second time, \
           expected each entry once: remove one of the two"],
    );
}

#[test]
fn mark() {
    let rest = "expected a packet mark of 32 bits with at least one bit set: \
                write a bit that nothing else on this host uses, as in mark = \"0x00200000\"";
    for bad in
        ["0", "\"0x0\"", "0x1_0000_0000", "-1", "\"0x100000000\"", "\"2097152\"", "\"0x\"", "\"0x+1\"", "[]"]
    {
        refused(&format!("mark = {bad}"), &[&format!("f.toml:1:8: mark: found {bad}, {rest}")]);
    }
}

#[test]
fn paths() {
    let rest = "expected the absolute path of a directory: write it as in state-dir = \"/run/ftpalg\"";
    for bad in ["\"run/ftpalg\"", "\"\"", "\"/\"", "7", "\"/a\\u0000b\""] {
        refused(&format!("state-dir = {bad}"), &[&format!("f.toml:1:13: state-dir: found {bad}, {rest}")]);
    }
    let rest = "expected the absolute path of a socket, at most 107 bytes: \
                write it as in control-socket = \"/run/ftpalg/control.sock\"";
    for bad in ["\"control.sock\"", "\"/\"", "7"] {
        refused(
            &format!("control-socket = {bad}"),
            &[&format!("f.toml:1:18: control-socket: found {bad}, {rest}")],
        );
    }
    let long = format!("f.toml:1:18: control-socket: found \"/{:038}…, {rest}", 0);
    refused(&format!("control-socket = \"/{:0107}\"", 0), &[&long]);
    taken(&format!("control-socket = \"/{:0106}\"", 0), |config| {
        config.control_socket = format!("/{:0106}", 0).into();
    });
}

#[test]
fn pinhole_timeout() {
    let rest = "expected seconds from 5 to 3600: write it as in timeout = 60";
    for bad in ["4", "3601", "-5", "\"60s\"", "60.0"] {
        refused(
            &format!("[pinhole]\ntimeout = {bad}"),
            &[&format!("f.toml:2:11: pinhole.timeout: found {bad}, {rest}")],
        );
    }
}

#[test]
fn pinhole_ports() {
    let mend = "write it as in ports = \"1024-65535\"";
    let rest = format!("expected \"LOW-HIGH\", both from 1024 to 65535 and LOW not above HIGH: {mend}");
    for bad in
        ["\"1023-65535\"", "\"1024-65536\"", "\"3000-2000\"", "\"2000\"", "\"+2000-3000\"", "\"-\"", "2000"]
    {
        refused(
            &format!("[pinhole]\nports = {bad}"),
            &[&format!("f.toml:2:9: pinhole.ports: found {bad}, {rest}")],
        );
    }
    refused(
        "[pinhole]\nports = \"2000-2014\"",
        &[&format!(
            "f.toml:2:9: pinhole.ports: found \"2000-2014\", expected a range of at least 16 ports: {mend}"
        )],
    );
}

#[test]
fn policy() {
    refused(
        "[policy]\nrequire-login = \"yes\"",
        &["f.toml:2:17: policy.require-login: found \"yes\", expected true or false: \
           write it as in require-login = true"],
    );
    let mend = "write it as in allow-third-party = [\"192.0.2.0/24\", \"2001:db8::1\"]";
    for bad in ["\"192.0.2\"", "\"192.0.2.0/33\"", "\"host.example\"", "5"] {
        refused(
            &format!("[policy]\nallow-third-party = [{bad}]"),
            &[&format!(
                "f.toml:2:22: policy.allow-third-party: found {bad}, \
                 expected an address or a network in CIDR notation: {mend}"
            )],
        );
    }
    refused(
        "[policy]\nallow-third-party = true",
        &[&format!("f.toml:2:21: policy.allow-third-party: found true, expected a list of networks: {mend}")],
    );
    refused(
        "[policy]\nallow-third-party = [\"192.0.2.7/24\"]",
        &["f.toml:2:22: policy.allow-third-party: found \"192.0.2.7/24\", \
           expected no bits beyond the prefix /24: write 192.0.2.0/24 for the network or 192.0.2.7 for the host"],
    );
    refused(
        "[policy]\nallow-third-party = [\"192.0.2.7\", \"192.0.2.7/32\"]",
        &["f.toml:2:35: policy.allow-third-party: found \"192.0.2.7/32\" a second time, \
           expected each entry once: remove one of the two"],
    );
}

#[test]
fn unknown_keys() {
    let top = "expected one of control-ports, queue, workers, when-down, accept-in, mark, state-dir, \
               control-socket, pinhole, policy, metrics";
    refused(
        "control-port = [21]",
        &[&format!(
            "f.toml:1:1: control-port: found an unknown key, {top}: write control-ports, or remove it"
        )],
    );
    refused(
        "[pinholes]\ntimeout = 60",
        &[&format!("f.toml:1:2: pinholes: found an unknown key, {top}: write pinhole, or remove it")],
    );
    refused("mar = 1", &[&format!("f.toml:1:1: mar: found an unknown key, {top}: write mark, or remove it")]);
    refused("map = 1", &[&format!("f.toml:1:1: map: found an unknown key, {top}: remove it")]);
    refused("colour = 1", &[&format!("f.toml:1:1: colour: found an unknown key, {top}: remove it")]);
    refused(
        "Control_Ports = [21]",
        &[&format!("f.toml:1:1: Control_Ports: found an unknown key, {top}: write control-ports")],
    );
    refused(
        "timeout = 60",
        &[&format!(
            "f.toml:1:1: timeout: found an unknown key, {top}: timeout belongs below the line [pinhole]"
        )],
    );
    refused(
        "[pinhole]\nqueue = 1\nrequire_login = true",
        &[
            "f.toml:2:1: pinhole.queue: found an unknown key, expected one of timeout, ports: \
             queue belongs above the first [table] line",
            "f.toml:3:1: pinhole.require_login: found an unknown key, expected one of timeout, ports: \
             require-login belongs below the line [policy]",
        ],
    );
}

#[test]
fn a_table_that_is_none() {
    refused(
        "pinhole = 60",
        &["f.toml:1:11: pinhole: found 60, expected a table: \
           write a line [pinhole], and its keys below that line"],
    );
}

#[test]
fn everything_wrong_is_told_at_once_in_the_files_order() {
    refused(
        "workers = 0\nx = 1\nqueue = -1\n[policy]\nrequire-login = 1\n[pinhole]\ntimeout = 1",
        &[
            "f.toml:1:11: workers: found 0, expected a number of threads from 1 to 64: \
             write at most the number of this machine's cores, as in workers = 1",
            "f.toml:2:1: x: found an unknown key, expected one of control-ports, queue, workers, when-down, \
             accept-in, mark, state-dir, control-socket, pinhole, policy, metrics: remove it",
            "f.toml:3:9: queue: found -1, expected a queue number from 0 to 65535: write it as in queue = 2121",
            "f.toml:5:17: policy.require-login: found 1, expected true or false: \
             write it as in require-login = true",
            "f.toml:7:11: pinhole.timeout: found 1, expected seconds from 5 to 3600: \
             write it as in timeout = 60",
        ],
    );
}

#[test]
fn syntax_errors() {
    let mend = "write each key on a line of its own as KEY = VALUE, text in quotes";
    refused("queue 3", &[&format!("f.toml:1:7: syntax error: key with no value, expected `=`: {mend}")]);
    refused(
        "queue = 1\nqueue = 2\nwhen-down = pass",
        &[
            "f.toml:2:1: syntax error at queue: duplicate key: remove one of the two",
            &format!(
                "f.toml:3:13: syntax error at pass: string values must be quoted, \
                 expected literal string: {mend}"
            ),
        ],
    );
    refused("[pinhole", &[&format!("f.toml:1:9: syntax error: unclosed table, expected `]`: {mend}")]);
}

#[test]
fn places_count_characters_and_bad_text_is_refused() {
    refused(
        "state-dir = [\"ü\", 1]\r\nqueue = \"ü\" # ü\r\n",
        &[
            "f.toml:1:13: state-dir: found [\"ü\", 1], expected the absolute path of a directory: \
             write it as in state-dir = \"/run/ftpalg\"",
            "f.toml:2:9: queue: found \"ü\", expected a queue number from 0 to 65535: \
             write it as in queue = 2121",
        ],
    );
    let error = Config::parse(Path::new("f.toml"), b"queue = 1\n# caf\xe9\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "f.toml:2:6: found a byte that is no UTF-8, expected text in UTF-8: save the file as UTF-8"
    );
}

#[test]
fn long_values_are_cut_in_messages() {
    refused(
        &format!("queue = \"{}\"", "ä".repeat(100)),
        &[&format!(
            "f.toml:1:9: queue: found \"{}…, expected a queue number from 0 to 65535: \
             write it as in queue = 2121",
            "ä".repeat(39)
        )],
    );
}

#[test]
fn files() {
    let directory = std::env::temp_dir().join(format!("ftpalg-config-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let (there, missing) = (directory.join("there.toml"), directory.join("missing.toml"));
    std::fs::write(&there, "queue = 7").unwrap();
    let load = |named: Option<&Path>, default: &Path| {
        Config::read_or(named, default)
            .map(|config| config.map(|config| config.queue))
            .map_err(|error| error.to_string())
    };
    let results = [
        load(Some(&there), &missing),
        load(None, &there),
        load(None, &missing),
        load(Some(&missing), &there),
        load(Some(&directory), &there),
    ];
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(
        results,
        [
            Ok(Some(7)),
            Ok(Some(7)),
            Ok(None),
            Err(format!(
                "{}: no such file: name an existing one with --config, \
                 or leave --config out to use /etc/ftpalg/ftpalg.toml",
                missing.display()
            )),
            Err(format!("{}: it is a directory: name the file in it with --config", directory.display())),
        ]
    );
}

#[test]
fn an_address_for_metrics() {
    taken("[metrics]\nlisten = \"off\"", |_| {});
    taken("[metrics]\nlisten = \"127.0.0.1:12121\"", |config| {
        config.metrics_listen = Some("127.0.0.1:12121".parse().unwrap());
    });
    taken("metrics.listen = \"[::1]:9\"", |config| config.metrics_listen = Some("[::1]:9".parse().unwrap()));
    let mend = r#"expected "ADDRESS:PORT" or "off": write it as in listen = "127.0.0.1:12121", or "off""#;
    for bad in
        ["\"localhost:12121\"", "\"127.0.0.1\"", "\"127.0.0.1:0\"", "\":12121\"", "12121", "true", "\"\""]
    {
        refused(
            &format!("[metrics]\nlisten = {bad}"),
            &[&format!("f.toml:2:10: metrics.listen: found {bad}, {mend}")],
        );
    }
    refused(
        "listen = \"off\"",
        &[
            "f.toml:1:1: listen: found an unknown key, expected one of control-ports, queue, workers, when-down, \
         accept-in, mark, state-dir, control-socket, pinhole, policy, metrics: listen belongs below the line [metrics]",
        ],
    );
}
