//! The contents of the requests being built: for each resource the points of each metric, the log
//! records and the spans, encoded.

use std::collections::HashMap;

use super::metric::Metrics;
use super::names::Names;
use super::resource::Options;
use super::wire;
use crate::ship::line::{Fields, Signal};
use crate::ship::pool::{Buffer, Pool};

/// The most resources that keep their buffers from one batch to the next. Unlike series, they
/// contain nothing that cannot be made again.
const MAX_KEPT: usize = 256;

/// Everything from one resource.
pub struct Group {
    name: Box<[u8]>,
    resource: Vec<u8>,
    points: Vec<Vec<u8>>,
    order: Vec<usize>,
    used: bool,
    /// Log records, each as field 2 of `ScopeLogs`.
    pub logs: Vec<u8>,
    /// Spans, each as field 2 of `ScopeSpans`.
    pub spans: Vec<u8>,
}

impl Group {
    /// Identifies the resource: the host, and the record's own attributes if it has any.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The points of a metric, to append to, each as field 1 of its data.
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
        self.used = false;
    }

    /// The length of what [`Group::write`] appends inside the scope.
    fn len(&self, signal: Signal, metrics: &Metrics) -> usize {
        let metric = |id: &usize| wire::framed(metrics.len(*id, self.points[*id].len()));
        match signal {
            Signal::Metrics => self.order.iter().map(metric).sum(),
            Signal::Logs => self.logs.len(),
            Signal::Traces => self.spans.len(),
        }
    }

    /// Appends `ResourceMetrics`, `ResourceLogs` or `ResourceSpans`, unless it is empty.
    fn write(&self, out: &mut Vec<u8>, signal: Signal, metrics: &Metrics, frame: &Frame) {
        let len = match self.len(signal, metrics) {
            0 => return,
            len => frame.scope.len() + len + frame.schema.len(),
        };
        wire::head(out, 1, wire::framed(self.resource.len()) + wire::framed(len) + frame.schema.len());
        wire::bytes(out, 1, &self.resource);
        wire::head(out, 2, len);
        out.extend_from_slice(&frame.scope);
        match signal {
            Signal::Metrics => self.order.iter().for_each(|id| metrics.write(out, *id, &self.points[*id])),
            Signal::Logs => out.extend_from_slice(&self.logs),
            Signal::Traces => out.extend_from_slice(&self.spans),
        }
        out.extend_from_slice(&frame.schema);
        out.extend_from_slice(&frame.schema);
    }
}

/// What all groups have in common, encoded.
struct Frame {
    /// The scope, as field 1 of `ScopeMetrics`, `ScopeLogs` and `ScopeSpans`.
    scope: Vec<u8>,
    /// The schema, as field 3 of these three and of `ResourceMetrics`, `ResourceLogs` and `ResourceSpans`.
    schema: Vec<u8>,
}

impl Frame {
    fn new(names: Names) -> Self {
        let (mut scope, mut schema) = (Vec::new(), Vec::new());
        wire::message(&mut scope, 1, |out| {
            wire::text(out, 1, "telepipe");
            wire::text(out, 2, env!("CARGO_PKG_VERSION"));
        });
        wire::text(&mut schema, 3, names.schema_url());
        Self { scope, schema }
    }
}

/// All groups, and what arrived encoded.
pub struct Groups {
    frame: Frame,
    all: Vec<Group>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// The groups in this request, in order of their first lines.
    order: Vec<usize>,
    last: Option<usize>,
    name: Vec<u8>,
    /// `ResourceMetrics`, `ResourceLogs` and `ResourceSpans` from OTLP/JSON, each as field 1.
    pub ready: [Vec<u8>; 3],
}

impl Groups {
    /// Without any group.
    pub fn new(names: Names) -> Self {
        Self {
            frame: Frame::new(names),
            all: Vec::new(),
            by_name: HashMap::new(),
            order: Vec::new(),
            last: None,
            name: Vec::new(),
            ready: Default::default(),
        }
    }

    /// Returns the group of a host, with the record's own resource attributes.
    pub fn get(&mut self, host: &str, own: Option<&Fields<'_>>, options: &Options) -> &mut Group {
        self.name.clear();
        self.name.extend_from_slice(host.as_bytes());
        if let Some(own) = own.filter(|own| !own.is_empty()) {
            self.name.push(0);
            wire::key_values(&mut self.name, 1, own);
        }
        let index = match self.last.filter(|last| *self.all[*last].name == *self.name) {
            Some(last) => last,
            None => match self.by_name.get(&*self.name) {
                Some(index) => *index,
                None => self.add(options.resource(host, own.unwrap_or(&Fields::new()))),
            },
        };
        self.last = Some(index);
        let group = &mut self.all[index];
        if !group.used {
            group.used = true;
            self.order.push(index);
        }
        group
    }

    fn add(&mut self, resource: Vec<u8>) -> usize {
        let name: Box<[u8]> = (&*self.name).into();
        self.by_name.insert(name.clone(), self.all.len());
        self.all.push(Group {
            name,
            resource,
            points: Vec::new(),
            order: Vec::new(),
            used: false,
            logs: Vec::new(),
            spans: Vec::new(),
        });
        self.all.len() - 1
    }

    /// Returns the body of the request of a signal, in memory of the pool.
    pub fn body(&self, signal: Signal, metrics: &Metrics, pool: &Pool) -> Buffer {
        let mut out = pool.buffer();
        let groups = self.order.iter().map(|index| &self.all[*index]);
        let ready = &self.ready[signal as usize];
        let frame = self.frame.scope.len() + 2 * self.frame.schema.len() + 32;
        let len = |group: &Group| group.len(signal, metrics) + group.resource.len() + frame;
        out.make_room(groups.clone().map(len).sum::<usize>() + ready.len());
        groups.for_each(|group| group.write(&mut out, signal, metrics, &self.frame));
        out.extend_from_slice(ready);
        out
    }

    /// Removes all contents, and keeps the buffers of at most [`MAX_KEPT`] resources.
    pub fn clear(&mut self) {
        self.order.clear();
        self.last = None;
        if self.all.len() > MAX_KEPT {
            self.all.clear();
            self.by_name.clear();
        }
        self.all.iter_mut().for_each(Group::clear);
        self.ready.iter_mut().for_each(Vec::clear);
    }

    /// The number of resources that keep buffers.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.all.len()
    }
}
