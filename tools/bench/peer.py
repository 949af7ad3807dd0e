#!/usr/bin/env python3
# peer.py - llama.cpp at the benchmark's command (stdin -> times on stdout)
# SPDX-License-Identifier: Apache-2.0
"""usage: peer.py MODEL.gguf CORES VOCAB TOKENS_MAX SEQUENCES_MAX

CORES is a list such as 0,1: as many threads, bound to these. Commands, one a
line, answered by one line:
  decode SEQUENCES STEPS PROMPT  seconds of STEPS steps of one token each, after
                                 PROMPT tokens of each sequence
  batch SEQUENCES STEPS PROMPT   the same; also how long the prompts took: two
                                 numbers, prompts first
  prefill ROWS                   seconds of one step of ROWS tokens
  logits ROWS FILE               ROWS tokens, their logits to FILE as float32
Tokens are those of bench/cpu_model.c. Only the library's own work is timed.
"""
import ctypes
import os
import sys
import time


def bind(cores):
    """Before the library starts its threads."""
    os.sched_setaffinity(0, cores)
    os.environ["GOMP_CPU_AFFINITY"] = " ".join(map(str, sorted(cores)))
    os.environ["OMP_NUM_THREADS"] = str(len(cores))


BATCH_ROWS = 2048


class Peer:
    def __init__(self, path, threads, vocab, tokens_max, sequences_max):
        import llama_cpp

        self.api = llama_cpp
        self.vocab = vocab
        self.silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            sys.exit(f"peer: {path} does not load")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sequences_max * tokens_max
        params.n_batch = BATCH_ROWS
        params.n_ubatch = 512
        params.n_seq_max = sequences_max
        params.n_threads = threads
        params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("peer: no context")
        self.batch = llama_cpp.llama_batch_init(BATCH_ROWS, 0, 1)
        self.sequences_max = sequences_max
        self.done = [0] * sequences_max

    def token(self, sequence, at):
        mixed = (sequence * 1000003 + at * 7919 + 17) & 0xFFFFFFFF
        mixed = (mixed * 2654435761) & 0xFFFFFFFF
        return (mixed >> 7) % self.vocab

    def reset(self):
        memory = self.api.llama_get_memory(self.context)
        self.api.llama_memory_clear(memory, True)
        self.done = [0] * self.sequences_max

    def step(self, sequences, rows, all_logits=False):
        """Seconds of the next `rows` tokens of each of these sequences."""
        batch = self.batch
        count = 0
        for sequence in sequences:
            for row in range(rows):
                at = self.done[sequence]
                batch.token[count] = self.token(sequence, at)
                batch.pos[count] = at
                batch.n_seq_id[count] = 1
                batch.seq_id[count][0] = sequence
                batch.logits[count] = all_logits or row + 1 == rows
                self.done[sequence] += 1
                count += 1
        batch.n_tokens = count
        start = time.perf_counter()
        status = self.api.llama_decode(self.context, batch)
        self.api.llama_synchronize(self.context)
        seconds = time.perf_counter() - start
        if status:
            sys.exit(f"peer: llama_decode says {status}")
        return seconds

    def prompts(self, sequences, prompt):
        """Seconds of all of them, as many at a time as a batch holds."""
        seconds = 0.0
        at_once = max(1, BATCH_ROWS // prompt)
        for first in range(0, sequences, at_once):
            last = min(first + at_once, sequences)
            seconds += self.step(range(first, last), prompt)
        return seconds

    def batch_decode(self, sequences, steps, prompt):
        self.reset()
        prompts = self.prompts(sequences, prompt)
        return prompts, sum(self.step(range(sequences), 1) for _ in range(steps))

    def prefill(self, rows):
        self.reset()
        return self.step(range(1), rows)

    def logits(self, rows, path):
        self.reset()
        self.step(range(1), rows, True)
        with open(path, "wb") as out:
            for row in range(rows):
                values = self.api.llama_get_logits_ith(self.context, row)
                out.write(ctypes.string_at(values, 4 * self.vocab))


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    cores = {int(core) for core in sys.argv[2].split(",")}
    bind(cores)
    peer = Peer(sys.argv[1], len(cores), *map(int, sys.argv[3:]))
    version = peer.api.__version__
    print(f"ready llama-cpp-python {version}", flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "decode":
            answers = peer.batch_decode(*map(int, words))[1:]
        elif command == "batch":
            answers = peer.batch_decode(*map(int, words))
        elif command == "prefill":
            answers = (peer.prefill(int(words[0])),)
        elif command == "logits":
            peer.logits(int(words[0]), words[1])
            answers = (0.0,)
        else:
            sys.exit(f"peer: {command}: no such command")
        print(*(f"{answer:.9f}" for answer in answers), flush=True)


if __name__ == "__main__":
    main()
