//! redis-server over loopback: loaded, benchmarked, saved by a forked child, reloaded, and asked for its digest.
//!
//! Debian's redis-server links jemalloc. Its process map and the loader's log say that the library serves it instead.

use crate::harness::{Side, compare, installed, wait};
use std::fmt::Write;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn redis() {
    let paths = ["redis-server", "redis-cli", "redis-benchmark"].map(installed);
    let [Some(server), Some(cli), Some(benchmark)] = paths else { return };
    let data = load();
    compare("redis", &["redis-server", "redis-cli", "redis-benchmark"], |side| {
        let mut server = Server::start(side, &server, &cli);
        server.check_map(side);

        let pipe = side.write("load.resp", &data);
        side.run_as("redis-cli --pipe", server.cli(side, &["--pipe"]).stdin(pipe));
        for query in
            ["DBSIZE", "DEBUG DIGEST", "LRANGE list:7 0 20", "ZRANGE scores 100 140 WITHSCORES", "GET key:77"]
        {
            server.query(side, query);
        }
        // Small values by many clients with pipelines, then large ones; threads read requests and write replies.
        for options in [
            "-n 20000 -c 30 -P 8 -d 100 -t set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,lrange_100,mset",
            "-n 2000 -c 10 -d 20000 -t set,get,lpush,rpush,lpop,hset",
        ] {
            let words = options.split(' ').chain(["-q"]);
            let port = server.port.to_string();
            let mut command = side.command(&benchmark);
            side.run_unrecorded(command.args(["-h", "127.0.0.1", "-p", &port]).args(words));
        }
        server.query(side, "DEBUG DIGEST");

        // A child forked under load writes the data; the server then drops and reads back all it has.
        server.query(side, "BGSAVE");
        server.await_background_save(side);
        server.query(side, "DEBUG RELOAD");
        server.query(side, "DEBUG DIGEST");
        server.query(side, "FLUSHALL ASYNC");
        server.query(side, "DBSIZE");
        server.stop(side);
    });
}

/// A running server. When a check fails, it is killed, by its own pid.
struct Server {
    child: Child,
    port: u16,
    cli: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().expect("a child can be killed");
            self.child.wait().expect("a killed child ends");
        }
    }
}

impl Server {
    fn start(side: &Side, program: &Path, cli: &Path) -> Server {
        // The port is free when asked for; if somebody takes it before the server does, ask again.
        for _ in 0..3 {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
            let port = listener.local_addr().expect("a bound listener has an address").port();
            drop(listener);
            let log = File::create(side.folder().join("server.log")).expect("the folder takes a file");
            let options = format!(
                "--port {port} --bind 127.0.0.1 --daemonize no --appendonly no --io-threads 2 --io-threads-do-reads yes --enable-debug-command yes"
            );
            let mut command = side.command(program);
            command.args(options.split(' ')).args(["--save", "", "--dir"]).arg(side.folder());
            let child = command.stdout(log).spawn().expect("redis-server starts");
            let mut server = Server { child, port, cli: cli.to_owned() };
            if server.answers(side) {
                return server;
            }
        }
        let log = fs::read_to_string(side.folder().join("server.log")).unwrap_or_default();
        panic!("redis-server does not come up:\n{log}");
    }

    fn answers(&mut self, side: &Side) -> bool {
        for _ in 0..400 {
            if wait(&mut self.child, Duration::from_millis(50)).is_some() {
                return false;
            }
            let reply = self.ask(side, "PING").output().expect("redis-cli starts");
            if reply.stdout == b"PONG\n" {
                return true;
            }
        }
        false
    }

    /// The process map names the library on the one side, and must not on the other.
    fn check_map(&self, side: &Side) {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.child.id()))
            .expect("the server's map can be read");
        assert_eq!(maps.contains("/libpcpmalloc.so"), side.preloads(), "the server's map:\n{maps}");
    }

    fn cli(&self, side: &Side, words: &[&str]) -> Command {
        let mut command = side.command(&self.cli);
        command.args(["-h", "127.0.0.1", "-p"]).arg(self.port.to_string()).args(words);
        command
    }

    fn ask(&self, side: &Side, query: &str) -> Command {
        self.cli(side, &query.split(' ').collect::<Vec<_>>())
    }

    /// Asks, and records the answer under the question alone: the port differs between the sides.
    fn query(&self, side: &mut Side, query: &str) {
        side.run_as(query, &mut self.ask(side, query));
    }

    fn await_background_save(&self, side: &Side) {
        for _ in 0..400 {
            let info = side.run_unrecorded(&mut self.ask(side, "INFO persistence"));
            if info.contains("rdb_bgsave_in_progress:0") {
                assert!(info.contains("rdb_last_bgsave_status:ok"), "the forked child failed:\n{info}");
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("BGSAVE did not end");
    }

    /// The server ends by itself, through its exit handlers, with status 0.
    fn stop(&mut self, side: &mut Side) {
        self.query(side, "SHUTDOWN NOSAVE");
        let status = wait(&mut self.child, PATIENCE).expect("redis-server ends when told to");
        let log = fs::read_to_string(side.folder().join("server.log")).unwrap_or_default();
        assert!(status.success(), "redis-server: {status}\n{log}");
    }
}

/// Commands in redis's own protocol: strings of many sizes, lists, hashes and a sorted set; then half is deleted.
fn load() -> String {
    let mut stream = String::new();
    let mut send = |words: &[&str]| {
        write!(stream, "*{}\r\n", words.len()).expect("a string takes all");
        for word in words {
            write!(stream, "${}\r\n{word}\r\n", word.len()).expect("a string takes all");
        }
    };
    let filler = "redis".repeat(1000);
    for i in 0..40_000_usize {
        let size = [3, 20, 60, 130, 300, 1000, 4000][i * 31 % 7] + i % 11;
        send(&["SET", &format!("key:{i}"), &filler[..size]]);
        send(&["RPUSH", &format!("list:{}", i % 200), &filler[..i % 90]]);
        send(&["HSET", &format!("hash:{}", i % 300), &format!("field{i}"), &i.to_string()]);
        send(&["ZADD", "scores", &(i * 7919 % 10_007).to_string(), &format!("member{i}")]);
    }
    for i in (0..40_000).step_by(2) {
        send(&["DEL", &format!("key:{i}")]);
        send(&["APPEND", &format!("key:{}", i + 1), &filler[..i % 700]]);
    }
    stream
}
