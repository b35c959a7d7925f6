//! A request in the making: per host, the points of each metric, the log records
//! and the spans, as bytes; and last the request's own bytes.

use super::metric::Metrics;
use super::resource::Options;
use super::{Signal, wire};

/// Above this many hosts, their resources are made anew.
const MAX_HOSTS: usize = 256;

/// Everything of one host.
pub struct Host {
    name: String,
    resource: Vec<u8>,
    points: Vec<Vec<u8>>,
    order: Vec<usize>,
    /// Log records, each as field 2 of `ScopeLogs`.
    pub logs: Vec<u8>,
    /// Spans, each as field 2 of `ScopeSpans`.
    pub spans: Vec<u8>,
}

impl Host {
    /// The points of a metric, to be appended to, each as field 1 of its data.
    pub fn points(&mut self, metric: usize) -> &mut Vec<u8> {
        if self.points.len() <= metric {
            self.points.resize_with(metric + 1, Vec::new);
        }
        if self.points[metric].is_empty() {
            self.order.push(metric);
        }
        &mut self.points[metric]
    }

    fn clear(&mut self) {
        for metric in self.order.drain(..) {
            self.points[metric].clear();
        }
        self.logs.clear();
        self.spans.clear();
    }

    /// Appends the part of a request that is this host's: resource, scope and what it holds.
    fn write(&self, out: &mut Vec<u8>, signal: Signal, metrics: &Metrics) {
        let empty = match signal {
            Signal::Metrics => self.order.is_empty(),
            Signal::Logs => self.logs.is_empty(),
            Signal::Traces => self.spans.is_empty(),
        };
        if empty {
            return;
        }
        wire::message(out, 1, |out| {
            wire::bytes(out, 1, &self.resource);
            wire::message(out, 2, |out| {
                wire::message(out, 1, |out| {
                    wire::text(out, 1, "telepipe");
                    wire::text(out, 2, env!("CARGO_PKG_VERSION"));
                });
                match signal {
                    Signal::Metrics => {
                        for metric in &self.order {
                            metrics.write(out, *metric, &self.points[*metric]);
                        }
                    }
                    Signal::Logs => out.extend_from_slice(&self.logs),
                    Signal::Traces => out.extend_from_slice(&self.spans),
                }
            });
        });
    }

    fn len(&self) -> usize {
        self.points.iter().map(Vec::len).sum::<usize>() + self.logs.len() + self.spans.len()
    }
}

/// The hosts of a request, and what comes ready made.
#[derive(Default)]
pub struct Hosts {
    hosts: Vec<Host>,
    /// In the order in which this request met them.
    order: Vec<usize>,
    last: Option<usize>,
    /// `ResourceMetrics`, `ResourceLogs` and `ResourceSpans` of other origin, each as field 1.
    pub ready: [Vec<u8>; 3],
}

impl Hosts {
    /// What there is of that host.
    pub fn get(&mut self, name: &str, options: &Options) -> &mut Host {
        let is = |host: &Host| host.name == name;
        let index = match self.last.filter(|last| is(&self.hosts[*last])) {
            Some(last) => last,
            None => {
                let index = self.hosts.iter().position(is).unwrap_or_else(|| self.add(name, options));
                if !self.order.contains(&index) {
                    self.order.push(index);
                }
                self.last = Some(index);
                index
            }
        };
        &mut self.hosts[index]
    }

    fn add(&mut self, name: &str, options: &Options) -> usize {
        self.hosts.push(Host {
            name: name.to_owned(),
            resource: options.resource(name),
            points: Vec::new(),
            order: Vec::new(),
            logs: Vec::new(),
            spans: Vec::new(),
        });
        self.hosts.len() - 1
    }

    /// The body of the request of that signal.
    pub fn body(&self, signal: Signal, metrics: &Metrics) -> Vec<u8> {
        let ready = &self.ready[signal as usize];
        let expected = self.hosts.iter().map(Host::len).sum::<usize>() + ready.len();
        let mut out = Vec::with_capacity(expected + expected / 16 + 1024);
        for host in &self.order {
            self.hosts[*host].write(&mut out, signal, metrics);
        }
        out.extend_from_slice(ready);
        out
    }

    /// Empties everything, and keeps the memory.
    pub fn clear(&mut self) {
        self.order.clear();
        self.last = None;
        if self.hosts.len() > MAX_HOSTS {
            self.hosts.clear();
        }
        self.hosts.iter_mut().for_each(Host::clear);
        self.ready.iter_mut().for_each(Vec::clear);
    }
}
