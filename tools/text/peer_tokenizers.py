# peer_tokenizers.py - speed of Hugging Face tokenizers on one core (prose -> MB/s)
# SPDX-License-Identifier: Apache-2.0
"""usage: peer_tokenizers.py PROSE TOKENIZER.json... > PEER

Prints "NAME MB/s" per tokenizer: the median of five encodings of the file, in
processor time, with the library's threads off. bench/text_speed.c reads it.
"""
import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import pathlib
import statistics
import sys
import time

import tokenizers


def main():
    data = pathlib.Path(sys.argv[1]).read_bytes()
    text = data.decode("utf-8", "replace")
    for path in map(pathlib.Path, sys.argv[2:]):
        tok = tokenizers.Tokenizer.from_file(str(path))
        seconds = []
        for _ in range(5):
            start = time.process_time()
            tok.encode(text, add_special_tokens=False)
            seconds.append(time.process_time() - start)
        speed = len(data) / 1e6 / statistics.median(seconds)
        print(f"{path.name} {speed:.3f}")


if __name__ == "__main__":
    main()
