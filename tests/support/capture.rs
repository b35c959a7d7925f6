//! An HTTP/1.1 server on loopback that records every request and answers by a script: statuses, headers, bodies,
//! delays, truncated connections, silence. It uses only the standard library, not the code under test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST`.
    pub method: String,
    /// The path with its query: `/v1/metrics`.
    pub path: String,
    /// Headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as sent, possibly compressed.
    pub body: Vec<u8>,
    /// When the body was complete.
    pub at: Instant,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body, decompressed.
    pub fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        match self.header("content-encoding") {
            Some("gzip") => {
                let mut decoder = flate2::read::MultiGzDecoder::new(&*self.body);
                decoder.read_to_end(&mut plain).expect("a gzip body");
            }
            Some("zstd") => plain = zstd::stream::decode_all(&*self.body).expect("a zstd body"),
            Some(other) => panic!("content-encoding: {other}"),
            None => plain.clone_from(&self.body),
        }
        plain
    }
}

/// An answer: `Answer::status(429).header("Retry-After", "2")`.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    ending: Ending,
}

#[derive(Clone, Debug)]
enum Ending {
    Whole,
    CutAfter(usize),
    ResetAfter(usize),
    Drip(Duration),
    Hangup,
    Silence,
}

impl Answer {
    /// This status with an empty body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: vec![], body: vec![], delay: Duration::ZERO, ending: Ending::Whole }
    }

    /// 200 with an empty body, which means success in OTLP.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Closes the connection without an answer.
    pub fn hangup() -> Self {
        Self { ending: Ending::Hangup, ..Self::ok() }
    }

    /// Never answers, and keeps the connection open.
    pub fn silence() -> Self {
        Self { ending: Ending::Silence, ..Self::ok() }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body; `content-length` follows it.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Delays the answer.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after this many bytes of the body, although `content-length` covers all.
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.ending = Ending::CutAfter(bytes);
        self
    }

    /// Resets the connection after this many bytes of the body.
    pub fn reset_after(mut self, bytes: usize) -> Self {
        self.ending = Ending::ResetAfter(bytes);
        self
    }

    /// Sends a byte of the body at a time, with this time between them.
    pub fn drip(mut self, pause: Duration) -> Self {
        self.ending = Ending::Drip(pause);
        self
    }

    /// Writes it; false if the connection ends.
    fn send(&self, stream: &mut TcpStream) -> io::Result<bool> {
        thread::sleep(self.delay);
        let sent = match self.ending {
            Ending::Hangup => return Ok(false),
            // Read until one side closes the connection.
            Ending::Silence => return io::copy(stream, &mut io::sink()).map(|_| false),
            Ending::CutAfter(bytes) | Ending::ResetAfter(bytes) => bytes.min(self.body.len()),
            Ending::Drip(_) => 0,
            Ending::Whole => self.body.len(),
        };
        let mut text = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        stream.write_all(text.as_bytes())?;
        stream.write_all(b"\r\n")?;
        stream.write_all(&self.body[..sent])?;
        match self.ending {
            Ending::Drip(pause) => {
                for byte in &self.body {
                    thread::sleep(pause);
                    stream.write_all(&[*byte])?;
                }
            }
            // A socket that does not linger is reset when it is closed.
            Ending::ResetAfter(_) => set_socket_linger(&*stream, Some(Duration::ZERO))?,
            _ => {}
        }
        Ok(matches!(self.ending, Ending::Whole | Ending::Drip(_)))
    }
}

type Script = Box<dyn FnMut(&Request) -> Answer + Send>;

/// A running server, which stops when dropped.
pub struct Capture {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    script: Script,
    requests: Vec<Request>,
    connections: Vec<TcpStream>,
    stopped: bool,
}

impl Capture {
    /// Gives these answers in turn, then always 200 with an empty body.
    pub fn script(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers = answers.into_iter().collect::<Vec<_>>().into_iter();
        Self::with(move |_| answers.next().unwrap_or_else(Answer::ok))
    }

    /// Answers each request with the result of `script`, which runs under the server's lock and must not wait.
    pub fn with(script: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        Self::on(0, script)
    }

    /// As [`Capture::with`], on this port; 0 for any.
    ///
    /// # Panics
    /// If the port is in use.
    pub fn on(port: u16, script: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port on loopback");
        let address = listener.local_addr().expect("the bound address");
        let state = State { script: Box::new(script), requests: vec![], connections: vec![], stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), arrived: Condvar::new() });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, in order of completion.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// Waits for at least `count` requests and returns all.
    ///
    /// # Panics
    /// If they do not come within `limit`.
    pub fn wait(&self, count: usize, limit: Duration) -> Vec<Request> {
        let too_few = |state: &mut State| state.requests.len() < count;
        let waited = self.shared.arrived.wait_timeout_while(self.shared.lock(), limit, too_few);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let got = state.requests.len();
        assert!(got >= count, "{got} of {count} requests came within {limit:?}");
        state.requests.clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopped = true;
            for connection in state.connections.drain(..) {
                // Fails if the other side has closed it.
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        // Wakes `accept`, which then ends.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            let mut state = self.lock();
            if state.stopped {
                return;
            }
            state.connections.extend(stream.try_clone());
            let shared = Arc::clone(self);
            // An error means that the other side closed the connection.
            thread::spawn(move || shared.serve(stream));
        }
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read_request(&mut reader)? {
            let last = request.header("connection") == Some("close");
            let answer = {
                let mut state = self.lock();
                let answer = (state.script)(&request);
                state.requests.push(request);
                answer
            };
            self.arrived.notify_all();
            let goes_on = answer.send(&mut stream)?;
            if matches!(answer.ending, Ending::ResetAfter(_)) {
                let own = stream.peer_addr()?;
                let kept = |other: &TcpStream| other.peer_addr().is_ok_and(|address| address != own);
                self.lock().connections.retain(kept);
                return Ok(()); // closes it
            }
            if !goes_on || last {
                break;
            }
        }
        stream.shutdown(Shutdown::Both)
    }
}

/// Reads the next request of a connection; `None` at its end.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let first = read_line(reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = vec![];
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: vec![], at: Instant::now() };
    if request.header("transfer-encoding") == Some("chunked") {
        while let size @ 1.. = usize::from_str_radix(&read_line(reader)?, 16).map_err(io::Error::other)? {
            read_exactly(reader, size, &mut request.body)?;
            read_line(reader)?;
        }
        read_line(reader)?;
    } else if let Some(length) = request.header("content-length") {
        let length = length.parse().map_err(io::Error::other)?;
        read_exactly(reader, length, &mut request.body)?;
    }
    request.at = Instant::now();
    Ok(Some(request))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn read_exactly(reader: &mut impl BufRead, length: usize, into: &mut Vec<u8>) -> io::Result<()> {
    let got = reader.by_ref().take(length as u64).read_to_end(into)?;
    if got == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The time in so many seconds, as in the header `Retry-After`. It has whole seconds.
pub fn http_date(seconds: i64) -> String {
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap()
}
