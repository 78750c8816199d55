/*
 * zstd_provider.h - the codec of the C tests: the system's libzstd, linked (-lzstd), so that they
 * need no Python.
 */
#ifndef VEX_TESTS_ZSTD_PROVIDER_H
#define VEX_TESTS_ZSTD_PROVIDER_H

#include "include/vexfs.h"

/* libzstd's addresses, for vex_set_codec_native. */
vex_zstd_symbols test_zstd_symbols(void);

/* The same library as a plain provider, without contexts kept per thread or digested
 * dictionaries, for vex_set_codec. */
vex_codec_provider test_zstd_provider(void);

/* Register the former. */
vex_status test_register_zstd(void);

#endif
