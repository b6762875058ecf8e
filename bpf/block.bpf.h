/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the probes of block I/O share: how the kernel says that something failed, and which failures are faults.
 */
#ifndef VEDETTE_BLOCK_BPF_H
#define VEDETTE_BLOCK_BPF_H

#include "kernel_types.bpf.h"

#define REQ_OP_MASK 0xff
enum { REQ_OP_READ = 0, REQ_OP_WRITE = 1, REQ_OP_FLUSH = 2 };
/* SCSI and driver commands (passthrough): udev and smartd ask for what a device may not have. */
#define FIRST_PASSTHROUGH 32

enum { EIO = 5, EAGAIN = 11, ENOMEM = 12, EBUSY = 16, ENODEV = 19, ENOSPC = 28, ENOLINK = 67, EBADE = 52, ENODATA = 61,
       EREMCHG = 78, EILSEQ = 84, EOPNOTSUPP = 95, ETIMEDOUT = 110, EREMOTEIO = 121 };

/* blk_status_t as errno, in its order (blk-core.c); kernels add at the end. Negative: an errno already. */
static __always_inline int status_errno(int status)
{
	switch (status) {
	case 1: return EOPNOTSUPP;
	case 2: return ETIMEDOUT;
	case 3: return ENOSPC;
	case 4: return ENOLINK;
	case 5: return EREMOTEIO;
	case 6: return EBADE;
	case 7: return ENODATA;
	case 8: return EILSEQ;
	case 9: return ENOMEM;
	case 11: return EREMCHG;
	case 12: return EAGAIN;
	case 13: return EBUSY;
	case 16: return ENODEV;
	default: return status < 0 ? -status : EIO;
	}
}

/*
 * The errno of a failed request, or 0 where that is no fault: somebody asked whether a device could, or asked
 * not to wait, or the request is handed back to be sent elsewhere, or it is a command of a tool.
 */
static __always_inline int block_fault(int status, unsigned int op)
{
	int error = status_errno(status);

	if ((op & REQ_OP_MASK) >= FIRST_PASSTHROUGH)
		return 0;
	return error == EOPNOTSUPP || error == EAGAIN || error == EREMCHG ? 0 : error;
}

#endif
