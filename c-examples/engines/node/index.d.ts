/// <reference types="node" />

/** Memory that pages can be shown in. A number of bytes in it counts from the beginning of what is passed. */
export type Target = MemoryLike | ArrayBufferLike | NodeJS.ArrayBufferView;

/** A WebAssembly.Memory: the best target, since it also tells how the memory grows. */
export interface MemoryLike {
  readonly buffer: ArrayBufferLike;
  grow(pages: number): number;
}

/** What a tie may do for its whole life. `copy-on-write`: stores stay in the target. */
export type Access = 'read-only' | 'read-write' | 'copy-on-write';

/** What addresses allow now; never more than the access of the tie there. */
export type Protection = 'none' | 'read' | 'read-write';

export interface TieOptions {
  /** The byte of the source that the tie begins with. Default: 0. */
  sourceOffset?: number | bigint;
  /** Default: 'read-write'. */
  access?: Access;
  /** 'keep' (the default): untying brings back what was there. 'discard': it leaves zeros. */
  covered?: 'keep' | 'discard';
}

/** Unties, and is the tie. Calling it again does nothing. A tie lasts without it, as long as its memory. */
export interface Untie {
  (): void;
  /** Shows another part of the source in the same place. */
  retie(sourceOffset: number | bigint): void;
  /** Shows another source there. */
  retie(source: Source | NodeJS.ArrayBufferView, sourceOffset?: number | bigint): void;
  /** Changes what the addresses of the tie allow, or `length` bytes of it from `offset` on. */
  protect(protection: Protection, offset?: number | bigint, length?: number | bigint): void;
  /** Read-write: the bytes of the source become zeros. Copy-on-write: stores are undone. */
  discard(offset?: number | bigint, length?: number | bigint): void;
  /**
   * Takes note that the memory grew, and protects again what of its ties the growth made writable. Every call
   * of this package does that by itself, unless an ArrayBuffer was tied into, which `grow` detaches: then
   * pass the memory, or its new ArrayBuffer.
   */
  grown(target?: MemoryLike | ArrayBufferLike): void;
  /** False once it is untied, or ended because its memory moved. */
  readonly live: boolean;
  /** What was tied into, or what grown() was given; undefined once it is untied. */
  readonly target: MemoryLike | ArrayBufferLike | undefined;
  /** Where it begins, in bytes of the memory. */
  readonly targetOffset: number;
  readonly sourceOffset: number;
  readonly byteLength: number;
  readonly access: Access;
}

export interface Source {
  /**
   * Shows [sourceOffset, sourceOffset + length) of this in a memory at `targetOffset`. All are multiples of
   * the page size. Default: as much as fits.
   */
  tie(
    target: Target,
    targetOffset?: number | bigint,
    length?: number | bigint,
    options?: TieOptions | number | bigint,
  ): Untie;
  /** No more ties of it. Those that there are, and the bytes, stay. */
  close(): void;
  /** The descriptor of its pages: for openFDBuffer in a worker. It is closed when this is collected. */
  readonly fd: number;
}

/** What the kernel says of a range of a memory. */
export interface Mapping {
  /** In bytes of the memory. */
  offset: number;
  byteLength: number;
  /** The byte of the object that it begins with, and the object's inode; 0 where there is none. */
  sourceOffset: number;
  inode: number;
  protection: Protection;
  shared: boolean;
}

/** What is thrown: a TypeError, a RangeError or another Error. */
export interface PagetieError extends Error {
  /** The name of the status in pagetie.h, 'PAGETIE_OVERLAP' for example. */
  code: string;
  /** Of errors of the library: the range that was asked for, and what it met. */
  value?: number;
  valueEnd?: number;
  other?: number;
  otherEnd?: number;
  /** Of a failed system call. */
  errno?: number;
}

/** A Buffer of `size` zero bytes, a multiple of the page size. /proc/PID/maps shows the name. */
export function openMemFDBuffer(name: string, size: number | bigint): Buffer & Source;
/** The same as an ArrayBuffer. */
export function openMemFDArrayBuffer(name: string, size: number | bigint): ArrayBuffer & Source;
/** A Buffer that shows a whole file or memfd, open for reading and writing. The descriptor is still yours. */
export function openFDBuffer(fd: number): Buffer & Source;

/** Changes what addresses of a memory allow, tied or not. */
export function protect(
  target: Target,
  protection: Protection,
  offset?: number | bigint,
  length?: number | bigint,
): void;
/** Throws away the bytes there: of the source, if it is tied read-write. */
export function discard(target: Target, offset?: number | bigint, length?: number | bigint): void;
/** Asks the kernel what is there. */
export function inspect(target: Target, offset?: number | bigint, length?: number | bigint): Mapping[];

/** What offsets and lengths are multiples of, in bytes. */
export const pageSize: number;
/** The version of the library. */
export const version: string;
