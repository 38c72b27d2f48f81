//! The knobs from the environment: one variable each. A value that makes no sense costs one line on stderr,
//! and the program goes on with what it would have been without it.
#![forbid(unsafe_code)]

use core::ffi::CStr;

use crate::base::config::{Config, Dump, Foreign, Hugepages};
use crate::sys::bug::Line;
use crate::sys::env;

/// One variable: its name, what values it takes, and how a value changes the settings. `None` for a value
/// that makes no sense.
struct Knob {
    name: &'static CStr,
    takes: &'static str,
    /// What holds where the value makes no sense.
    default: &'static str,
    read: fn(&mut Config, &[u8]) -> Option<()>,
}

const KNOBS: [Knob; 12] = [
    Knob {
        name: c"PCPMALLOC_HUGEPAGES",
        takes: "thp, hugetlb or off",
        default: "thp",
        read: |config, value| {
            config.hugepages = match value {
                b"thp" => Hugepages::Thp,
                b"hugetlb" => Hugepages::Hugetlb,
                b"off" => Hugepages::Off,
                _ => return None,
            };
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_PCP_HIGH",
        takes: "a number of pages up to 1048576, or 0 for automatic",
        default: "automatic",
        read: |config, value| {
            config.pcp_high = number(value).filter(|pages| *pages <= 1 << 20)? as u32;
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_PCP_BATCH",
        takes: "a number of pages up to 4096, or 0 for automatic",
        default: "automatic",
        read: |config, value| {
            config.pcp_batch = number(value).filter(|pages| *pages <= 4096)? as u32;
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_PCP_HIGH_ORDERS",
        takes: "1 or 0",
        default: "1",
        read: |config, value| {
            config.pcp_high_orders = switch(value)?;
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_GROUP_BY_MOBILITY",
        takes: "1 or 0",
        default: "1",
        read: |config, value| {
            config.group_by_mobility = switch(value)?;
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_SLACK",
        takes: "a size in bytes, or with K, M or G",
        default: "8M",
        read: |config, value| {
            config.slack = size(value)?;
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_LIMIT",
        takes: "a size above 0 in bytes, or with K, M or G, or 1% to 100%",
        default: "no limit",
        read: |config, value| {
            (config.limit, config.limit_percent) = match value.strip_suffix(b"%") {
                Some(percent) => (usize::MAX, number(percent).filter(|of| (1..=100).contains(of))? as u8),
                None => (size(value).filter(|bytes| *bytes > 0)?, 0),
            };
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_BACKGROUND",
        takes: "a number of milliseconds up to 86400000, or 0 for none",
        default: "0",
        read: |config, value| {
            config.background = number(value).filter(|ms| *ms <= 86_400_000)? as u32;
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_WATCH",
        takes: "1 or 0",
        default: "0",
        read: |config, value| {
            config.watch = switch(value)?;
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_DUMP",
        takes: "all or used",
        default: "all",
        read: |config, value| {
            config.dump = match value {
                b"all" => Dump::All,
                b"used" => Dump::Used,
                _ => return None,
            };
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_VERBOSE",
        takes: "1 or 0",
        default: "0",
        read: |config, value| {
            config.verbose = switch(value)?;
            Some(())
        },
    },
    Knob {
        name: c"PCPMALLOC_FOREIGN",
        takes: "abort or forward",
        default: "abort",
        read: |config, value| {
            config.foreign = match value {
                b"abort" => Foreign::Abort,
                b"forward" => Foreign::Forward,
                _ => return None,
            };
            Some(())
        },
    },
];

/// The settings with what the environment says. A program with more rights than its caller ignores it.
pub(crate) fn from_environment(mut config: Config) -> Config {
    if env::is_privileged() {
        return config;
    }
    let own = config != Config::new();
    for knob in &KNOBS {
        env::with_variable(knob.name, |value| {
            let mut changed = config;
            match (knob.read)(&mut changed, value) {
                Some(()) => config = changed,
                None => warn(knob, value, own),
            }
        });
    }
    config
}

/// `own` says that the program has settings of its own, which hold then.
fn warn(knob: &Knob, value: &[u8], own: bool) {
    let value = &value[..value.len().min(64)];
    Line::new()
        .bytes(knob.name.to_bytes())
        .text(": '")
        .bytes(value)
        .text("' is not ")
        .text(knob.takes)
        .text("; using ")
        .text(if own { "the program's own setting" } else { knob.default })
        .print();
}

/// A decimal number.
fn number(value: &[u8]) -> Option<usize> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_usize, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(digit.into())
    })
}

/// A decimal number of bytes, or of the 1024-fold units that a last letter names.
fn size(value: &[u8]) -> Option<usize> {
    let (last, rest) = value.split_last()?;
    let shift = match last {
        b'k' | b'K' => 10,
        b'm' | b'M' => 20,
        b'g' | b'G' => 30,
        _ => return number(value),
    };
    number(rest)?.checked_mul(1 << shift)
}

fn switch(value: &[u8]) -> Option<bool> {
    match value {
        b"1" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &CStr, value: &[u8]) -> Option<Config> {
        let knob = KNOBS.iter().find(|knob| knob.name == name).expect("a knob");
        let mut config = Config::new();
        (knob.read)(&mut config, value).map(|()| config)
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(size(b"0"), Some(0));
        assert_eq!(size(b"12"), Some(12));
        assert_eq!(size(b"3k"), Some(3 << 10));
        assert_eq!(size(b"64M"), Some(64 << 20));
        assert_eq!(size(b"2G"), Some(2 << 30));
        for wrong in
            [&b""[..], b"M", b"-1", b"1 M", b"1.5G", b"12q", b"18446744073709551616", b"17179869184G"]
        {
            assert_eq!(size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn every_knob_takes_what_it_says_and_nothing_else() {
        assert_eq!(read(c"PCPMALLOC_HUGEPAGES", b"off").unwrap().hugepages, Hugepages::Off);
        assert_eq!(read(c"PCPMALLOC_PCP_HIGH", b"1000").unwrap().pcp_high, 1000);
        assert_eq!(read(c"PCPMALLOC_PCP_BATCH", b"31").unwrap().pcp_batch, 31);
        assert!(!read(c"PCPMALLOC_PCP_HIGH_ORDERS", b"0").unwrap().pcp_high_orders);
        assert!(!read(c"PCPMALLOC_GROUP_BY_MOBILITY", b"0").unwrap().group_by_mobility);
        assert_eq!(read(c"PCPMALLOC_SLACK", b"1M").unwrap().slack, 1 << 20);
        assert_eq!(read(c"PCPMALLOC_LIMIT", b"1G").unwrap().limit, 1 << 30);
        for (value, percent) in [(&b"1%"[..], 1), (b"90%", 90), (b"100%", 100)] {
            let config = read(c"PCPMALLOC_LIMIT", value).unwrap();
            assert_eq!((config.limit, config.limit_percent), (usize::MAX, percent));
        }
        for wrong in [&b"%"[..], b"0%", b"101%", b"90.5%", b"90 %", b"-1%", b"1M%", b"90%%", b"0"] {
            assert_eq!(read(c"PCPMALLOC_LIMIT", wrong), None, "{wrong:?}");
        }
        assert_eq!(read(c"PCPMALLOC_BACKGROUND", b"86400000").unwrap().background, 86_400_000);
        assert_eq!(read(c"PCPMALLOC_BACKGROUND", b"86400001"), None);
        assert!(read(c"PCPMALLOC_WATCH", b"1").unwrap().watch);
        assert_eq!(read(c"PCPMALLOC_DUMP", b"used").unwrap().dump, Dump::Used);
        assert!(read(c"PCPMALLOC_VERBOSE", b"1").unwrap().verbose);
        assert_eq!(read(c"PCPMALLOC_FOREIGN", b"forward").unwrap().foreign, Foreign::Forward);
        for knob in &KNOBS {
            assert_eq!(read(knob.name, b"banana"), None, "{:?}", knob.name);
            assert_eq!(read(knob.name, b""), None, "{:?}", knob.name);
        }
    }
}
