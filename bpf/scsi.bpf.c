// SPDX-License-Identifier: GPL-2.0
/*
 * SCSI commands that failed or got no answer, below the block layer's own retries: a disk that is about to fail
 * is heard here first. A probe of its own: often a module (scsi_mod). Completions run in softirq.
 */
#include "compat.bpf.h"
#include "totals.bpf.h"

/* The result word: what the target said in its lowest byte, what the host adapter did in its third. */
#define TARGET_STATUS 0xff
#define CHECK_CONDITION 0x02
#define HOST_BYTE(result) ((result) >> 16 & 0xff)
enum {
	DID_OK = 0x00,
	DID_BUS_BUSY = 0x02,
	DID_RESET = 0x08,
	DID_PASSTHROUGH = 0x0a,
	DID_IMM_RETRY = 0x0c,
	DID_REQUEUE = 0x0d,
};

/* Sense data: its format in the first byte, then, by format, the key that says what is wrong. */
#define SENSE_DESCRIPTOR 0x72
enum { NOT_READY = 0x2, MEDIUM_ERROR = 0x3, HARDWARE_ERROR = 0x4, DATA_PROTECT = 0x7, ABORTED_COMMAND = 0xb };

/* Data to or from the medium, and what makes it last: by operation code, in any of their lengths. */
static __always_inline bool moves_data(__u8 operation)
{
	switch (operation) {
	case 0x08: case 0x28: case 0xa8: case 0x88: /* READ(6), (10), (12), (16) */
	case 0x0a: case 0x2a: case 0xaa: case 0x8a: /* WRITE */
	case 0x7f: /* READ(32), WRITE(32) */
	case 0x35: case 0x91: /* SYNCHRONIZE CACHE */
		return 1;
	default:
		return 0;
	}
}

static __always_inline __u8 sense_key(struct scsi_cmnd *command)
{
	__u8 sense[4] = {};

	if (bpf_probe_read_kernel(sense, sizeof(sense), command->sense_buffer))
		return 0;
	return ((sense[0] & 0x7f) >= SENSE_DESCRIPTOR ? sense[1] : sense[2]) & 0xf;
}

/*
 * Only commands that move data: tools and scans ask targets that are not there, or not able, all the time. A
 * busy bus, a retry and a target that wants attention (after a reset, say) are how SCSI works.
 */
static __always_inline bool is_error(struct scsi_cmnd *command)
{
	int result = command->result;

	if (!result || !moves_data(scsi_operation(command)))
		return 0;
	switch (HOST_BYTE(result)) {
	case DID_OK:
		break;
	case DID_BUS_BUSY:
	case DID_RESET:
	case DID_PASSTHROUGH:
	case DID_IMM_RETRY:
	case DID_REQUEUE:
		return 0;
	default:
		return 1;
	}
	if ((result & TARGET_STATUS) != CHECK_CONDITION)
		return 0;
	switch (sense_key(command)) {
	case NOT_READY:
	case MEDIUM_ERROR:
	case HARDWARE_ERROR:
	case DATA_PROTECT:
	case ABORTED_COMMAND:
		return 1;
	default:
		return 0;
	}
}

static __always_inline void tell(struct scsi_cmnd *command, const char *what, __u32 size)
{
	struct scsi_device *device = command->device;
	struct event *event = event_begin(EVENT_scsi_error);

	if (!event)
		return;
	event->value = (__u32)command->result;
	event->extra = (__u64)device->host->host_no << 32 | device->channel << 16 | device->id;
	__builtin_memcpy(event->text, what, size);
	event_send(event, EVENT_scsi_error);
}

/* A command is never null, but the verifier asks it of a module's tracepoint since 6.13 (838a10bd2ebf). */
SEC("tp_btf/scsi_dispatch_cmd_done")
int BPF_PROG(scsi_done, struct scsi_cmnd *command)
{
	if (!command || !is_error(command))
		return 0;
	COUNT_ANYWHERE(totals_of(bpf_get_current_cgroup_id()), scsi_errors, 1);
	tell(command, "error", sizeof("error"));
	return 0;
}

/* Any command: it is the device that does not answer. It is not `done` later. */
SEC("tp_btf/scsi_dispatch_cmd_timeout")
int BPF_PROG(scsi_timeout, struct scsi_cmnd *command)
{
	if (!command)
		return 0;
	COUNT_ANYWHERE(totals_of(bpf_get_current_cgroup_id()), scsi_timeouts, 1);
	tell(command, "timeout", sizeof("timeout"));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
