//! `memcpy(3)`, `memmove(3)` and `memcmp(3)` for static programs with musl on x86-64.
//!
//! Most copies and comparisons are of a few bytes. The functions of musl use `rep movsq`, which takes about 30 cycles to start, and
//! compare one byte at a time: in a long list, they take a quarter of the time. The linker takes these instead, because it finds
//! them before those of the C library. They use SSE2, which each x86-64 processor has.
//!
//! Each function is in a section of its own, so that the linker can place it next to the other functions that each call runs. They
//! are in assembly language, because a compiler may translate a loop that copies bytes into a call of `memcpy`.

#![expect(unsafe_code, reason = "functions in assembly language")]

use std::arch::global_asm;

// Up to 128 bytes, all is read before the first write, so the order of the blocks does not matter. Above that, the end at which the
// copy begins depends on the order of the blocks, and the block at the other end is read first.
global_asm!(
    ".section .text.memcpy,\"ax\",@progbits",
    ".p2align 4",
    ".globl memcpy",
    ".type memcpy,@function",
    ".globl memmove",
    ".type memmove,@function",
    "memcpy:",
    "memmove:",
    "mov rax, rdi",
    "cmp rdx, 16",
    "jb 20f",
    "cmp rdx, 32",
    "ja 40f",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + rdx - 16]",
    "movups [rdi], xmm0",
    "movups [rdi + rdx - 16], xmm1",
    "ret",
    "20:", // Up to 15 bytes.
    "cmp edx, 8",
    "jb 21f",
    "mov rcx, [rsi]",
    "mov r8, [rsi + rdx - 8]",
    "mov [rdi], rcx",
    "mov [rdi + rdx - 8], r8",
    "ret",
    "21:",
    "cmp edx, 4",
    "jb 22f",
    "mov ecx, [rsi]",
    "mov r8d, [rsi + rdx - 4]",
    "mov [rdi], ecx",
    "mov [rdi + rdx - 4], r8d",
    "ret",
    "22:", // The first, the middle and the last byte are all of them.
    "test edx, edx",
    "jz 23f",
    "mov r9, rdx",
    "shr r9",
    "movzx ecx, byte ptr [rsi]",
    "movzx r8d, byte ptr [rsi + rdx - 1]",
    "movzx r10d, byte ptr [rsi + r9]",
    "mov [rdi], cl",
    "mov [rdi + r9], r10b",
    "mov [rdi + rdx - 1], r8b",
    "23:",
    "ret",
    "40:", // More than 32 bytes.
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + 16]",
    "movups xmm6, [rsi + rdx - 32]",
    "movups xmm7, [rsi + rdx - 16]",
    "cmp rdx, 64",
    "ja 41f",
    "movups [rdi], xmm0",
    "movups [rdi + 16], xmm1",
    "movups [rdi + rdx - 32], xmm6",
    "movups [rdi + rdx - 16], xmm7",
    "ret",
    "41:",
    "movups xmm2, [rsi + 32]",
    "movups xmm3, [rsi + 48]",
    "movups xmm4, [rsi + rdx - 64]",
    "movups xmm5, [rsi + rdx - 48]",
    "lea r8, [rdi + rdx - 64]",
    "cmp rdx, 128",
    "ja 60f",
    "movups [rdi], xmm0",
    "movups [rdi + 16], xmm1",
    "movups [rdi + 32], xmm2",
    "movups [rdi + 48], xmm3",
    "42:", // Writes the last 64 bytes.
    "movups [r8], xmm4",
    "movups [r8 + 16], xmm5",
    "movups [r8 + 32], xmm6",
    "movups [r8 + 48], xmm7",
    "ret",
    "60:", // More than 128 bytes.
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    "jb 80f",
    "cmp rdx, 2048",
    "jae 70f",
    "61:",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + 16]",
    "movups xmm2, [rsi + 32]",
    "movups xmm3, [rsi + 48]",
    "movups [rdi], xmm0",
    "movups [rdi + 16], xmm1",
    "movups [rdi + 32], xmm2",
    "movups [rdi + 48], xmm3",
    "add rsi, 64",
    "add rdi, 64",
    "cmp rdi, r8",
    "jb 61b",
    "jmp 42b",
    "70:", // So many bytes that starting the string instruction does not matter.
    "mov rcx, rdx",
    "shr rcx, 3",
    "rep movsq",
    "jmp 42b",
    "80:", // The destination begins within the source: from the end to the beginning.
    "lea rcx, [rsi + rdx]",
    "lea r9, [rdi + rdx]",
    "lea r10, [rdi + 64]",
    "81:",
    "movups xmm4, [rcx - 16]",
    "movups xmm5, [rcx - 32]",
    "movups xmm6, [rcx - 48]",
    "movups xmm7, [rcx - 64]",
    "movups [r9 - 16], xmm4",
    "movups [r9 - 32], xmm5",
    "movups [r9 - 48], xmm6",
    "movups [r9 - 64], xmm7",
    "sub rcx, 64",
    "sub r9, 64",
    "cmp r9, r10",
    "ja 81b",
    "movups [rdi], xmm0",
    "movups [rdi + 16], xmm1",
    "movups [rdi + 32], xmm2",
    "movups [rdi + 48], xmm3",
    "ret",
    ".size memcpy, . - memcpy",
    ".size memmove, . - memmove",
    ".text",
);

global_asm!(
    ".section .text.memcmp,\"ax\",@progbits",
    ".p2align 4",
    ".globl memcmp",
    ".type memcmp,@function",
    ".globl bcmp",
    ".type bcmp,@function",
    "memcmp:",
    "bcmp:",
    "cmp rdx, 8",
    "jb 20f",
    "xor ecx, ecx",
    "sub rdx, 8",
    "jz 11f",
    "10:",
    "mov rax, [rdi + rcx]",
    "mov r8, [rsi + rcx]",
    "cmp rax, r8",
    "jne 12f",
    "add rcx, 8",
    "cmp rcx, rdx",
    "jb 10b",
    "11:", // The last eight bytes, some of which may have been compared before.
    "mov rax, [rdi + rdx]",
    "mov r8, [rsi + rdx]",
    "cmp rax, r8",
    "jne 12f",
    "xor eax, eax",
    "ret",
    "12:", // The first byte that differs decides. So it must be the most significant one.
    "bswap rax",
    "bswap r8",
    "cmp rax, r8",
    "13:",
    "sbb eax, eax",
    "or eax, 1",
    "ret",
    "20:", // Up to 7 bytes.
    "cmp edx, 4",
    "jb 22f",
    "mov eax, [rdi]",
    "mov ecx, [rsi]",
    "cmp eax, ecx",
    "jne 21f",
    "mov eax, [rdi + rdx - 4]",
    "mov ecx, [rsi + rdx - 4]",
    "cmp eax, ecx",
    "jne 21f",
    "xor eax, eax",
    "ret",
    "21:",
    "bswap eax",
    "bswap ecx",
    "cmp eax, ecx",
    "jmp 13b",
    "22:",
    "xor eax, eax",
    "23:",
    "test edx, edx",
    "jz 24f",
    "movzx eax, byte ptr [rdi]",
    "movzx ecx, byte ptr [rsi]",
    "inc rdi",
    "inc rsi",
    "dec edx",
    "sub eax, ecx",
    "jz 23b",
    "24:",
    "ret",
    ".size memcmp, . - memcmp",
    ".size bcmp, . - bcmp",
    ".text",
);

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::hint::black_box;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
    }

    #[test]
    fn a_copy_has_all_bytes_and_no_others_change() {
        for len in (0..300).chain([511, 2047, 2048, 2049, 5000]) {
            for (from, to) in [(0, 0), (3, 8), (8, 3), (1, 64), (64, 1), (0, 129), (129, 0), (16, 0), (0, 6000)] {
                let mut block = sample(12_000);
                let before = block.clone();
                // `copy_within` calls memmove(3).
                block.copy_within(black_box(from..from + len), black_box(to));
                assert_eq!(block[to..to + len], before[from..from + len], "{len} bytes from {from} to {to}");
                assert!(block[..to] == before[..to] && block[to + len..] == before[to + len..], "{len} {from} {to}");
            }
        }
    }

    #[test]
    fn blocks_are_ordered_by_the_first_byte_that_differs() {
        for len in 0..100 {
            let block = sample(len);
            assert_eq!(black_box(&block[..]).cmp(black_box(&block.clone())), Ordering::Equal);
            for at in 0..len {
                let mut other = block.clone();
                // The bytes after the first one that differs say the opposite.
                other[at..].iter_mut().for_each(|byte| *byte = 0);
                other[at] = 255;
                assert_eq!(black_box(&block[..]).cmp(black_box(&other)), Ordering::Less, "byte {at} of {len}");
                assert_eq!(black_box(&other[..]).cmp(black_box(&block)), Ordering::Greater, "byte {at} of {len}");
                assert!(black_box(&other) != black_box(&block));
            }
        }
    }
}
