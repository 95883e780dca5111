package attestfs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/adyton-dev/adyton/sgx"
)

// values are what a process has written.
type values struct {
	reportData sgx.ReportData
	targetInfo [sgx.TargetInfoSize]byte
}

// processID is a process for good: its id and when it started, in clock ticks
// since boot, because ids are used again.
type processID struct {
	pid   uint32
	start string
}

// maxProcesses bounds how many processes are remembered; the one that was heard of
// least recently is forgotten, as if it had written nothing.
const maxProcesses = 1024

// processes holds the values of each process. Not safe for concurrent use.
type processes struct {
	tick  uint64
	known map[processID]*remembered
}

type remembered struct {
	values
	used uint64
}

func newProcesses() *processes {
	return &processes{known: make(map[processID]*remembered)}
}

// of gives the values of a process, zero at first.
func (p *processes) of(id processID) *values {
	p.tick++
	r := p.known[id]
	if r == nil {
		if len(p.known) >= maxProcesses {
			p.forgetOldest()
		}
		r = new(remembered)
		p.known[id] = r
	}
	r.used = p.tick
	return &r.values
}

func (p *processes) forgetOldest() {
	var oldest processID
	least := p.tick
	for id, r := range p.known {
		if r.used < least {
			oldest, least = id, r.used
		}
	}
	delete(p.known, oldest)
}

// callerOf finds the process of a request. The kernel names the thread; a thread
// that is gone already, or is in a namespace that we cannot see, counts as a
// process of its own.
func callerOf(ctx context.Context) processID {
	caller, ok := fuse.FromContext(ctx)
	if !ok {
		return processID{}
	}
	pid := caller.Pid
	if leader, ok := threadGroup(pid); ok {
		pid = leader
	}
	return processID{pid, startTime(pid)}
}

// threadGroup reads Tgid of /proc/tid/status.
func threadGroup(tid uint32) (uint32, bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("Tgid:")); ok {
			pid, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 32)
			return uint32(pid), err == nil
		}
	}
	return 0, false
}

// startTime reads field 22 of /proc/pid/stat, counted after the command's name,
// which may have spaces and parentheses in it.
func startTime(pid uint32) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return ""
	}
	fields := strings.Fields(string(stat[end+1:]))
	const startField = 22 - 3 // the first field after the name is the 3rd
	if len(fields) <= startField {
		return ""
	}
	return fields[startField]
}
