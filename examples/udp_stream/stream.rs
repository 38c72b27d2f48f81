//! Messages over loopback, from one thread to another one: netperf's UDP_STREAM within a process.
//!
//! For each message the sender allocates a buffer, fills it and sends it; the receiver compares what arrives with the
//! buffer and frees that. A datagram carries its number, and a table has the buffer under that number, so no datagram,
//! lost or late, can make a buffer leak or go twice: who takes it out of the table, frees it. The sender has no more in
//! flight than the receiver's socket holds, so in fact none is lost; the receiver's answers say how far it is.

use std::net::UdpSocket;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;
use std::time::Duration;

use pcpmalloc::Instance;

use super::buffers::{Buffers, Shape};
use super::cpus::Pinned;
use super::meter::Figures;

/// The most messages in flight, a power of two.
const MAX_WINDOW: u64 = 64;
/// What a socket may hold by default, less a quarter: with no more in flight the kernel drops nothing.
const SOCKET_BUFFER: usize = 160_000;
/// After this long without an answer the messages in flight count as lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// The bytes of a message that are its number and a word for the receiver.
const HEADER: usize = 16;
/// The bit of the word that asks for an answer; those above it say which instance the buffer is of.
const ANSWER: u64 = 1;

/// The largest message of the experiment.
pub const MAX_MESSAGE: usize = 16384;

/// Buffers in flight, by the number of their message.
type Table = [AtomicPtr<u8>; 2 * MAX_WINDOW as usize];

/// What both sides know.
struct Plan<'a> {
    instances: &'a [Instance],
    shape: Shape,
    /// Bytes of a message.
    size: usize,
    table: Table,
}

/// Lets `work` send messages of this size to a receiver, the two threads on CPUs of their own. All instances share the
/// threads and their sockets, so runs on one and on another differ in nothing else.
pub fn with_receiver<R>(
    instances: &[Instance],
    shape: Shape,
    size: usize,
    work: impl FnOnce(&mut Sender) -> R,
) -> R {
    assert!((HEADER..=MAX_MESSAGE).contains(&size), "a message has room for its header");
    let (near, far) = connected();
    near.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    let plan = Plan { instances, shape, size, table: [const { AtomicPtr::new(ptr::null_mut()) }; _] };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _pinned = Pinned::to(1);
            receive(&far, &plan);
        });
        let _pinned = Pinned::to(0);
        let mut sender = Sender::new(&near, &plan);
        let done = work(&mut sender);
        sender.finish();
        done
    })
}

/// Two sockets that receive from each other only.
fn connected() -> (UdpSocket, UdpSocket) {
    let [one, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    let connect = |from: &UdpSocket, to: &UdpSocket| {
        from.connect(to.local_addr().expect("it is bound")).expect("loopback is up");
    };
    connect(&one, &other);
    connect(&other, &one);
    (one, other)
}

/// How many messages of this size may be in flight. The kernel charges a socket for a buffer as it allocated it.
fn window(size: usize) -> u64 {
    let charged = (size + 512).next_power_of_two() + 512;
    ((SOCKET_BUFFER / charged) as u64).min(MAX_WINDOW)
}

pub struct Sender<'a> {
    socket: &'a UdpSocket,
    plan: &'a Plan<'a>,
    /// One for each instance.
    buffers: Vec<Buffers<'a>>,
    window: u64,
    /// The number of the next message.
    next: u64,
    /// All messages before this one have arrived, or are lost.
    answered: u64,
    /// Messages that did not arrive, or too late.
    pub lost: u64,
}

impl<'a> Sender<'a> {
    fn new(socket: &'a UdpSocket, plan: &'a Plan<'a>) -> Self {
        let buffers = plan.instances.iter().map(|instance| Buffers::new(instance, plan.shape)).collect();
        Self { socket, plan, buffers, window: window(plan.size), next: 0, answered: 0, lost: 0 }
    }

    /// Sends so many messages in buffers of one instance, after an eighth as many that are not measured.
    pub fn run(&mut self, instance: usize, messages: u64) -> Figures {
        self.send_all(instance, messages / 8);
        Figures::of(&self.plan.instances[instance], messages, || self.send_all(instance, messages))
    }

    /// Sends so many messages and waits until they have arrived.
    fn send_all(&mut self, instance: usize, messages: u64) {
        let end = self.next + messages;
        while self.next < end {
            while self.next - self.answered >= self.window {
                self.await_answer();
            }
            let half = (self.window / 2).max(1);
            let asks = self.next.is_multiple_of(half) || self.next + 1 == end;
            self.send(instance, asks);
        }
        while self.answered < self.next {
            self.await_answer();
        }
    }

    fn send(&mut self, instance: usize, asks: bool) {
        let size = self.plan.size;
        let buffer = self.buffers[instance].alloc();
        // SAFETY: the buffer has room for a message and is this thread's alone.
        unsafe { buffer.write_bytes(self.next as u8, size) };
        // SAFETY: written just now, all of it.
        let message = unsafe { std::slice::from_raw_parts_mut(buffer, size) };
        let word = (instance as u64) << 1 | if asks { ANSWER } else { 0 };
        message[..8].copy_from_slice(&self.next.to_ne_bytes());
        message[8..HEADER].copy_from_slice(&word.to_ne_bytes());
        // Where a message was lost between others that arrived, its buffer is still here.
        self.give_up(self.next..self.next + 1);
        // Release: pairs with the Acquire of who takes it out, so that the message is seen as it was written.
        self.plan.place(self.next).store(buffer, Ordering::Release);
        // No datagram with this number is under way yet, so the receiver leaves the buffer alone until this one is.
        self.socket.send(message).expect("loopback is up");
        self.next += 1;
    }

    fn await_answer(&mut self) {
        let mut answer = [0; 8];
        match self.socket.recv(&mut answer) {
            // An answer that comes after its time was up says nothing new.
            Ok(8) => self.answered = u64::from_ne_bytes(answer).clamp(self.answered, self.next),
            Ok(_) => (),
            Err(_) => {
                self.give_up(self.answered..self.next);
                self.answered = self.next;
            }
        }
    }

    /// Frees the buffers that are still at these messages' places.
    fn give_up(&mut self, numbers: Range<u64>) {
        self.lost += numbers.filter(|number| self.plan.free(*number, None)).count() as u64;
    }

    /// Ends the receiver. Nothing is in flight now, so the empty datagram arrives.
    fn finish(&mut self) {
        self.give_up(0..self.plan.table.len() as u64);
        self.socket.send(&[]).expect("loopback is up");
    }
}

impl Plan<'_> {
    fn place(&self, number: u64) -> &AtomicPtr<u8> {
        &self.table[number as usize % self.table.len()]
    }

    /// Frees the buffer of a message, if it is still there; it must hold what `arrived`.
    fn free(&self, number: u64, arrived: Option<&[u8]>) -> bool {
        // Acquire: pairs with the Release of `send`.
        let buffer = self.place(number).swap(ptr::null_mut(), Ordering::Acquire);
        if buffer.is_null() {
            return false;
        }
        // SAFETY: the sender wrote a message of this size and put it into the table, and this thread took it out.
        let sent = unsafe { std::slice::from_raw_parts(buffer, self.size) };
        if let Some(arrived) = arrived {
            assert!(sent == arrived, "message {number} is not what was sent");
        }
        let instance = &self.instances[(word(sent, 8) >> 1) as usize];
        // SAFETY: as above: nobody else has it; and the sender took it from this instance.
        unsafe { self.shape.free(instance, buffer) };
        true
    }
}

fn word(message: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(message[at..at + 8].try_into().expect("eight bytes"))
}

/// Frees the buffer of each message that arrives, until an empty one does.
fn receive(socket: &UdpSocket, plan: &Plan) {
    let mut landing = [0; MAX_MESSAGE];
    loop {
        let length = socket.recv(&mut landing).expect("loopback is up");
        if length == 0 {
            return;
        }
        let (message, number) = (&landing[..length], word(&landing, 0));
        // The sender has given a message up that comes too late.
        plan.free(number, Some(message));
        if word(&landing, 8) & ANSWER != 0 {
            socket.send(&(number + 1).to_ne_bytes()).expect("loopback is up");
        }
    }
}
