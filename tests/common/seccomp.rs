//! Makes system calls of this process fail, for good, as they do on another kernel or host.
//!
//! seccomp(2) with a filter for each rule, in the classic BPF of the kernel. A process that may do
//! less than others cannot be undone: use it in processes of their own.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

use std::io;

/// One system call, told apart by one argument or by none, and how it fails.
#[derive(Clone, Copy, Debug)]
pub struct Deny {
    pub call: libc::c_long,
    pub when: When,
    pub errno: i32,
}

/// Which calls fail. Only the low 32 bits of an argument are looked at.
#[derive(Clone, Copy, Debug)]
pub enum When {
    Always,
    /// The argument (from 0), its bits of interest, and what they are.
    Equal {
        arg: u32,
        mask: u32,
        value: u32,
    },
    /// The argument (from 0) and bits of which it has none.
    Without {
        arg: u32,
        mask: u32,
    },
}

/// Filters the calls of all threads; an error where this kernel or host has no filters.
pub fn deny(rules: &[Deny]) -> io::Result<()> {
    // SAFETY: sets a flag of the process; the unused arguments are zero, as it asks.
    let rc = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut program: Vec<libc::sock_filter> = rules.iter().flat_map(compile).collect();
    program.push(op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog {
        len: program.len().try_into().expect("a short program"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program is valid for the length of the call, which copies it.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &filter,
        )
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    rules.iter().for_each(assert_denied);
    Ok(())
}

/// Makes the call of a rule, and sees that it fails as the rule says. All arguments that it does
/// not name are zero: unfiltered, the call would do nothing, or fail in another way.
fn assert_denied(rule: &Deny) {
    let mut args = [0 as libc::c_long; 6];
    if let When::Equal { arg, value, .. } = rule.when {
        args[arg as usize] = value.into();
    }
    let [a, b, c, d, e, f] = args;
    // SAFETY: the filter answers instead of the kernel.
    let rc = unsafe { libc::syscall(rule.call, a, b, c, d, e, f) };
    let errno = io::Error::last_os_error().raw_os_error();
    assert_eq!((rc, errno), (-1, Some(rule.errno)), "the filter does not bite: {rule:?}");
}

/// Offsets in the kernel's `struct seccomp_data`.
const CALL: u32 = 0;

/// The low half of an argument.
fn argument(index: u32) -> u32 {
    16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}

/// Fails the call, or falls through to the next rule. The architecture is not looked at: these
/// processes make the calls of their own only.
fn compile(rule: &Deny) -> Vec<libc::sock_filter> {
    let fail = op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | rule.errno as u32);
    let load = |offset| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let mask = |bits| op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, bits);
    // Skips the next so many instructions unless the value is the one loaded.
    let unless = |value, skip| libc::sock_filter {
        jf: skip,
        ..op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
    };
    let call =
        [load(CALL), unless(rule.call as u32, if let When::Always = rule.when { 1 } else { 4 })];
    let (arg, bits, value) = match rule.when {
        When::Always => return [call.as_slice(), &[fail]].concat(),
        When::Equal { arg, mask, value } => (arg, mask, value),
        When::Without { arg, mask } => (arg, mask, 0),
    };
    [call.as_slice(), &[load(argument(arg)), mask(bits), unless(value, 1), fail]].concat()
}

fn op(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
