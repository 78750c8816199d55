/*
 * check.h - are the indexes in a payload file those of its rows?
 */
#ifndef VEX_RANK_CHECK_H
#define VEX_RANK_CHECK_H

#include "store/payfile.h"

/* Make them anew and compare: VEX_ERR_CORRUPT when one is another, or cannot be made because rows
 * are damaged.  One that is not there is fine. */
vex_status vex_rank_check(vex_payfile *file);

#endif
