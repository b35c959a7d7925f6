//! A ClickHouse server: how it is reached, queries and inserts over HTTP, and what its answers mean.
//!
//! User and password go in headers, and no message repeats them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::tz::TimeZone;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use tokio::sync::OnceCell;

use super::super::Verdict;
use super::super::check::Report;
use super::super::retry_after::retry_after;
use super::parts::{Encoding, Parts};
use crate::common::diag::log;
use crate::common::time::Timestamp;
use crate::http::{Answer, Client, Method, Proxies, Settings, Trust, Url, is_loopback, public_name};

/// How much of an answer is read.
const MAX_ANSWER: usize = 4 << 20;
/// How long the server may take to store an insert.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest part of a server's message that is shown.
const MAX_REASON: usize = 300;

/// What to do about wrong credentials.
const CREDENTIALS: &str = "; check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD";

/// The setting by which the server recognises an insert that is repeated. Each insert has its own.
const TOKEN: &str = "insert_deduplication_token";

/// The settings of an insert, as far as the server has them: an unknown setting is an error.
const SETTINGS: [(&str, &str); 15] = [
    (TOKEN, ""),
    // The answer means that the rows are stored, and an insert that is repeated is stored once.
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    // The default of some servers keeps the rows before a bad one.
    ("input_format_allow_errors_num", "0"),
    ("input_format_allow_errors_ratio", "0"),
    // RFC 3339 with `Z`, whatever the time zone of the server.
    ("date_time_input_format", "best_effort"),
    ("input_format_skip_unknown_fields", "1"),
    ("input_format_null_as_default", "1"),
    // A column of strings takes every value: arrays and objects as JSON.
    ("input_format_json_read_numbers_as_strings", "1"),
    ("input_format_json_read_bools_as_strings", "1"),
    ("input_format_json_read_arrays_as_strings", "1"),
    ("input_format_json_read_objects_as_strings", "1"),
    ("input_format_json_named_tuples_as_objects", "1"),
    ("input_format_import_nested_json", "0"),
    ("type_json_skip_duplicated_paths", "1"),
];

/// Looks up an environment variable.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A server and the database in it.
pub struct Server {
    client: Client,
    trust: Trust,
    url: Url,
    headers: HeaderMap,
    /// The URL without anything secret.
    name: String,
    database: Option<String>,
    facts: OnceCell<Facts>,
}

/// What is asked of the server once.
struct Facts {
    /// Where its days begin, and so its partitions.
    zone: TimeZone,
    /// The query parameters of an insert.
    settings: Vec<(&'static str, &'static str)>,
    encoding: Encoding,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub cause: Cause,
    /// What to report. Begins with the server's name.
    pub reason: String,
    /// ClickHouse's code, if it gave one.
    pub code: Option<u16>,
    /// The delay that the server asked for.
    pub after: Option<Duration>,
}

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server, the network or the user's rights: the same request can succeed later.
    Outside,
    /// There is no such table or database.
    NoTable,
    /// The table has other columns than before.
    Changed,
    /// A line, or the size of the request.
    Lines,
}

impl Failure {
    /// A failure that is found here and not by the server.
    pub fn of(cause: Cause, reason: String) -> Self {
        Self { cause, reason, code: None, after: None }
    }

    /// What to do with the request.
    pub fn verdict(self) -> Verdict {
        match self.cause {
            Cause::Lines => Verdict::Split { reason: self.reason },
            Cause::Outside | Cause::NoTable | Cause::Changed => {
                Verdict::Retry { after: self.after, reason: self.reason }
            }
        }
    }
}

impl Server {
    /// The server at `given`, or where the environment names it. Nothing connects yet.
    ///
    /// # Errors
    /// If the URL, a variable or a proxy is wrong.
    pub fn new(given: Option<&str>, trust: Trust, env: Env<'_>) -> Result<Self> {
        let env =
            |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let (source, text) = match given {
            Some(given) => ("--clickhouse", given.to_owned()),
            None => {
                ("CLICKHOUSE_URL", env("CLICKHOUSE_URL").unwrap_or_else(|| "http://127.0.0.1:8123".into()))
            }
        };
        // The text itself may contain a password.
        let parsed = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let mut url = parsed
            .with_context(|| format!("{source} is not a URL; write http://HOST:8123 or https://HOST:8443"))?;
        let in_url = Credentials::take(&mut url)?;
        if given.is_some() && in_url.password.is_some() {
            log(format_args!(
                "every user of this host can see the password in --clickhouse; use CLICKHOUSE_PASSWORD"
            ));
        }
        let user = in_url.user.or_else(|| env("CLICKHOUSE_USER"));
        let password = in_url.password.or_else(|| env("CLICKHOUSE_PASSWORD"));
        if password.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            log(format_args!(
                "the password for ClickHouse at {} goes over the network in the clear; use https",
                public_name(&url)
            ));
        }
        let mut headers = HeaderMap::new();
        for (name, what, value) in
            [("x-clickhouse-user", "user", user), ("x-clickhouse-key", "password", password)]
        {
            let Some(value) = value else { continue };
            let value = HeaderValue::from_str(&value).ok();
            let mut value =
                value.with_context(|| format!("the ClickHouse {what} is not valid in an HTTP header"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = Client::new(Settings {
            tls: (url.scheme() == "https").then(|| trust.clone()),
            proxies: Proxies::from_env(&env)?,
            // No redirects: a redirected POST becomes a GET, or goes where nobody allowed it to.
            ..Settings::default()
        })?;
        let name = public_name(&url);
        let database = in_url.database.or_else(|| env("CLICKHOUSE_DATABASE"));
        Ok(Self { client, trust, url, headers, name, database, facts: OnceCell::new() })
    }

    /// Tries to reach the server, and reports each step.
    pub fn reach(&self, destination: &str, report: &mut Report<'_>) -> bool {
        let tls = (self.url.scheme() == "https").then_some(&self.trust);
        report.reach(destination, &self.client, &self.url, tls)
    }

    /// The server for messages: nothing secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database, quoted; `None` for the user's default.
    pub fn database(&self) -> Option<String> {
        self.database.as_deref().map(quoted)
    }

    /// The name of the database; `None` for the user's default.
    pub fn database_name(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// A table's name in SQL.
    pub fn table(&self, name: &str) -> String {
        match self.database() {
            Some(database) => format!("{database}.{}", quoted(name)),
            None => quoted(name),
        }
    }

    /// No parts of a request yet: in the days and with the compression of the server.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn parts(&self) -> Result<Parts, Failure> {
        let facts = self.facts().await?;
        Ok(Parts::new(facts.zone.clone(), facts.encoding))
    }

    /// Runs a statement and returns its result.
    ///
    /// # Errors
    /// If it fails.
    pub async fn query(&self, sql: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.post(&[], None, sql.as_bytes().to_vec()).await?;
        match exception_in(&answer.body) {
            Some(code) => Err(self.failure(&answer, Some(code))),
            None => Ok(answer.body),
        }
    }

    /// Inserts compressed rows. The server stores a repetition with the same token once, if the table keeps a
    /// deduplication window.
    ///
    /// # Errors
    /// If it fails, or the answer is not that of a successful insert.
    pub async fn insert(&self, sql: &str, token: &str, rows: Vec<u8>) -> Result<(), Failure> {
        let mut parameters = vec![("query", sql), ("wait_end_of_query", "1")];
        let settings = self.facts().await?.settings.iter();
        parameters.extend(settings.map(|(name, value)| (*name, if *name == TOKEN { token } else { value })));
        let answer = self.post(&parameters, Some(self.facts().await?.encoding.name()), rows).await?;
        if answer.body.trim_ascii().is_empty() {
            return Ok(());
        }
        // The exception came after the status was sent; anything else is no answer of ClickHouse.
        Err(self.failure(&answer, exception_in(&answer.body)))
    }

    async fn facts(&self) -> Result<&Facts, Failure> {
        self.facts.get_or_try_init(|| self.ask()).await
    }

    async fn ask(&self) -> Result<Facts, Failure> {
        let names: Vec<_> = SETTINGS.iter().map(|(name, _)| format!("'{name}'")).collect();
        let sql = format!(
            "SELECT concat('zone ', timezone()) UNION ALL SELECT concat('version ', version()) UNION ALL \
             SELECT concat('setting ', name) FROM system.settings WHERE name IN ({}) FORMAT TabSeparated",
            names.join(", ")
        );
        let answer = String::from_utf8_lossy(&self.query(&sql).await?).into_owned();
        let (mut zone, mut encoding, mut settings) = (None, None, Vec::new());
        for line in answer.lines() {
            match line.split_once(' ') {
                Some(("zone", name)) => zone = Some(TimeZone::get(name).unwrap_or(TimeZone::UTC)),
                Some(("version", version)) => {
                    let year = version.split('.').next().and_then(|year| year.parse::<u32>().ok());
                    encoding = Some(if year >= Some(21) { Encoding::Zstd } else { Encoding::Gzip });
                }
                Some(("setting", name)) => settings.extend(SETTINGS.iter().find(|(known, _)| *known == name)),
                _ => return Err(self.stranger()),
            }
        }
        match (zone, encoding) {
            (Some(zone), Some(encoding)) => Ok(Facts { zone, settings, encoding }),
            _ => Err(self.stranger()),
        }
    }

    /// The failure of a server that is not ClickHouse.
    pub fn stranger(&self) -> Failure {
        Failure::of(Cause::Outside, format!("{}: it does not answer as ClickHouse does", self.name))
    }

    /// Posts once. An answer is one with status 200 and no exception in the headers.
    async fn post(
        &self,
        parameters: &[(&str, &str)],
        encoding: Option<&'static str>,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let mut url = self.url.clone();
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let mut post =
            self.client.request(Method::POST, url).headers(self.headers.clone()).timeout(TIMEOUT).body(body);
        if let Some(encoding) = encoding {
            post = post.header(CONTENT_ENCODING, encoding);
        }
        let request = post.build().map_err(|_| Failure::of(Cause::Lines, "no valid request".into()))?;
        let proxy = self.client.proxy(request.url());
        let answer = self
            .client
            .send(request, MAX_ANSWER)
            .await
            .map_err(|error| Failure::of(Cause::Outside, format!("{}: {error}", self.name)))?;
        let code = answer.headers.get("x-clickhouse-exception-code");
        let code = code.map(|code| code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(0));
        if answer.status.as_u16() == 200 && code.is_none() {
            return Ok(answer);
        }
        let mut failure = self.failure(&answer, code.or_else(|| exception_in(&answer.body)));
        if let (Some(proxy), 407 | 502..=504) = (proxy, answer.status.as_u16()) {
            failure.reason = format!("{} (through the proxy {proxy})", failure.reason);
        }
        Err(failure)
    }

    /// Interprets an answer that is no success.
    fn failure(&self, answer: &Answer, code: Option<u16>) -> Failure {
        let (name, status) = (&self.name, answer.status.as_u16());
        let message = one_line(&answer.body);
        let after = answer.header(RETRY_AFTER).and_then(|text| retry_after(text, Timestamp::now()));
        let Some(code) = code else {
            let (cause, reason) = match status {
                200 => (Cause::Outside, format!("{name}: it does not answer as ClickHouse does: {message}")),
                300..=399 => {
                    // Without its credentials.
                    let to = answer.header(LOCATION).and_then(|to| self.url.join(to).ok());
                    let to = to.map_or("an unknown URL".to_owned(), |to| public_name(&to));
                    (Cause::Outside, format!("{name} redirects to {to}; give that URL"))
                }
                // A proxy in front of the server.
                401 | 403 => (Cause::Outside, format!("{name} answers {status}: {message}{CREDENTIALS}")),
                413 => (Cause::Lines, format!("{name} answers 413: {message}")),
                _ => (Cause::Outside, format!("{name} answers {status}: {message}")),
            };
            return Failure { cause, reason, code: None, after };
        };
        let advice = match code {
            // REQUIRED_PASSWORD, UNKNOWN_USER, WRONG_PASSWORD, AUTHENTICATION_FAILED
            192..=194 | 516 => CREDENTIALS,
            // READONLY
            164 => "; use a user that is not readonly",
            // DATABASE_ACCESS_DENIED, ACCESS_DENIED
            291 | 497 => "; grant the user what is missing",
            60 | 81 => "; --create creates it",
            _ => "",
        };
        // Without the parts that only say that it is an exception.
        let message = message.replace("e.displayText() = ", "").replace(", e.what() = DB::Exception", "");
        let message = message.split(" (version ").next().unwrap_or_default();
        let reason = format!("{name}: {message}{advice}");
        Failure { cause: cause(code), reason, code: Some(code), after }
    }
}

/// What an exception means, by ClickHouse's error codes. A code that is not known to be the fault of a line is not
/// taken for one: to try again loses nothing.
fn cause(code: u16) -> Cause {
    match code {
        60 | 81 => Cause::NoTable,         // UNKNOWN_TABLE, UNKNOWN_DATABASE
        16 | 20 | 44 | 47 => Cause::Changed, // NO_SUCH_COLUMN_IN_TABLE, …, ILLEGAL_COLUMN, UNKNOWN_IDENTIFIER
        6 | 25..=27 | 38 | 41 | 72 | 130 | 376 | 441 | 467 | 675 | 676 // CANNOT_PARSE_…
        | 53 | 69 | 70 | 117 // TYPE_MISMATCH, ARGUMENT_OUT_OF_BOUND, CANNOT_CONVERT_TYPE, INCORRECT_DATA
        | 128 | 131 | 190 // TOO_LARGE_ARRAY_SIZE, TOO_LARGE_STRING_SIZE, SIZES_OF_ARRAYS_DONT_MATCH
        | 321 | 349 | 407 // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE, CANNOT_INSERT_NULL_…, DECIMAL_OVERFLOW
        | 469 | 645 | 691 => Cause::Lines, // VIOLATED_CONSTRAINT, NUMBER_OF_DIMENSIONS_MISMATCHED, UNKNOWN_ELEMENT_OF_ENUM
        _ => Cause::Outside,
    }
}

/// The code of an exception in a body: `Code: 60. DB::Exception: …`, anywhere, since output can come before it.
fn exception_in(body: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(body);
    let found = text.rfind("DB::Exception")?;
    let (_, code) = text[..found].rsplit_once("Code: ")?;
    let digits = code.find(|char: char| !char.is_ascii_digit()).unwrap_or(code.len());
    code[..digits].parse().ok()
}

/// A server's message on one bounded line, with control characters escaped.
fn one_line(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(&message[..message.len().min(16 * MAX_REASON)]);
    let words: Vec<_> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().take(MAX_REASON).collect();
    line.chars()
        .flat_map(|char| {
            let escaped = char.is_control().then(|| char.escape_default());
            let plain = (!char.is_control()).then_some(char);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A name in SQL.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// What a URL can contain in addition to the server.
struct Credentials {
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
}

impl Credentials {
    /// Takes them out of a URL: from its user part, and from `user`, `password` and `database` of its query.
    fn take(url: &mut Url) -> Result<Self> {
        let decode = |text: &str| {
            crate::ship::otlp::percent_decode(text).context("the URL's user is not percent-encoded")
        };
        let mut user = Some(url.username()).filter(|user| !user.is_empty()).map(decode).transpose()?;
        let mut password = url.password().map(decode).transpose()?;
        let mut database = None;
        let mut rest = Vec::new();
        for (name, value) in url.query_pairs() {
            match &*name {
                "user" => user = Some(value.into_owned()),
                "password" => password = Some(value.into_owned()),
                "database" => database = Some(value.into_owned()),
                "query" => bail!("leave `query` out of the URL of ClickHouse"),
                _ => rest.push((name.into_owned(), value.into_owned())),
            }
        }
        // Both fail only for a URL without a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        if !rest.is_empty() {
            url.query_pairs_mut().extend_pairs(rest);
        }
        Ok(Self { user, password, database })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(given: &str, variables: &[(&str, &str)]) -> Result<Server> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Server::new((!given.is_empty()).then_some(given), Trust::default(), &|name| {
            find(name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn credentials_leave_the_url() {
        let header = |server: &Server, name: &str| {
            server.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let own = server("http://me:s3cr%3Dt@127.0.0.1:1/x?database=d%60b&max_threads=2", &[]).unwrap();
        assert_eq!(own.url.as_str(), "http://127.0.0.1:1/x?max_threads=2");
        assert_eq!((own.name(), own.table("a`b")), ("http://127.0.0.1:1/x", "`d\\`b`.`a\\`b`".into()));
        assert_eq!(header(&own, "x-clickhouse-user").as_deref(), Some("me"));
        assert_eq!(header(&own, "x-clickhouse-key").as_deref(), Some("s3cr=t"));
        let variables = [
            ("CLICKHOUSE_URL", "http://[::1]:8123"),
            ("CLICKHOUSE_USER", "u"),
            ("CLICKHOUSE_PASSWORD", "p"),
            ("CLICKHOUSE_DATABASE", "d"),
        ];
        let other = server("", &variables).unwrap();
        assert_eq!((other.name(), other.table("t").as_str()), ("http://[::1]:8123/", "`d`.`t`"));
        assert_eq!(header(&other, "x-clickhouse-user").as_deref(), Some("u"));
        assert!(!format!("{:?}", own.headers).contains("s3cr"));
        for bad in ["s3cret@h", "ftp://me:s3cret@h", "http://h?query=s3cret"] {
            let error = server(bad, &[]).err().map(|error| format!("{error:#}")).unwrap();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn exceptions_have_causes() {
        for (body, code) in [
            ("Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE)", Some(60)),
            ("Code: 27, e.displayText() = DB::Exception: Cannot parse input", Some(27)),
            ("1\n2\n__exception__\nCode: 241. DB::Exception: Memory limit", Some(241)),
            ("Ok.", None),
            ("Code: 5", None),
        ] {
            assert_eq!(exception_in(body.as_bytes()), code, "{body}");
        }
        for code in [252, 241, 159, 209, 210, 242, 516, 164, 999, 12345] {
            assert_eq!(cause(code), Cause::Outside, "{code}");
        }
        for code in [27, 41, 72, 117, 321, 349, 469] {
            assert_eq!(cause(code), Cause::Lines, "{code}");
        }
        assert_eq!((cause(60), cause(16)), (Cause::NoTable, Cause::Changed));
        assert_eq!(one_line(b"a\n b\x1b[2J\tc"), "a b\\u{1b}[2J c");
        assert!(one_line(&[b'x'; 10_000]).len() == MAX_REASON);
    }
}
