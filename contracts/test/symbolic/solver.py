#!/usr/bin/env python3
"""Answers an SMT-LIB file with Bitwuzla, whose package on PyPI is a library without a command."""
import sys

import bitwuzla

options = bitwuzla.Options()
options.set(bitwuzla.Option.PRODUCE_MODELS, True)
bitwuzla.Parser(bitwuzla.TermManager(), options).parse(sys.argv[-1], False)
