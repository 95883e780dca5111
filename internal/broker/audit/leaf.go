package audit

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/adyton-dev/adyton/internal/broker/store"
)

// Where the log lives in the store. A record's value also holds the hashes of the
// subtrees that it completes, so that one record is one key: a count (1 byte),
// that many hashes (32 bytes each, level 0 first), then the record's bytes.
const (
	checkpointKey = "audit/checkpoint"
	recordPrefix  = "audit/record/"
)

// recordKey sorts as n does.
func recordKey(n int64) string { return fmt.Sprintf("%s%016x", recordPrefix, n) }

func encodeLeaf(hashes []tlog.Hash, data []byte) []byte {
	out := make([]byte, 0, 1+len(hashes)*tlog.HashSize+len(data))
	out = append(out, byte(len(hashes)))
	for _, h := range hashes {
		out = append(out, h[:]...)
	}
	return append(out, data...)
}

// completed is how many subtrees record n completes.
func completed(n int64) int { return 1 + bits.TrailingZeros64(^uint64(n)) }

func decodeLeaf(n int64, value []byte) ([]tlog.Hash, []byte, error) {
	count := completed(n)
	if len(value) < 1+count*tlog.HashSize || int(value[0]) != count {
		return nil, nil, fmt.Errorf("record %d is damaged", n)
	}
	hashes := make([]tlog.Hash, count)
	for i := range hashes {
		copy(hashes[i][:], value[1+i*tlog.HashSize:])
	}
	return hashes, value[1+count*tlog.HashSize:], nil
}

// hashReader reads the tree's stored hashes (tlog.HashReader), those of records
// that are not yet committed from fresh.
type hashReader struct {
	ctx   context.Context //nolint:containedctx // tlog.HashReader has no context
	store store.Store
	fresh map[int64][]tlog.Hash
}

// ReadHashes implements tlog.HashReader.
func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		// The hash of subtree k at a level is stored with the subtree's last record.
		level, k := tlog.SplitStoredHashIndex(index)
		n := (k+1)<<level - 1
		hashes, ok := r.fresh[n]
		if !ok {
			item, err := r.store.Get(r.ctx, recordKey(n))
			if errors.Is(err, store.ErrNotFound) {
				return nil, fmt.Errorf("record %d is missing", n)
			}
			if err != nil {
				return nil, err
			}
			if hashes, _, err = decodeLeaf(n, item.Value); err != nil {
				return nil, err
			}
		}
		out[i] = hashes[level]
	}
	return out, nil
}

// readRecords gives the bytes of up to limit records from number from on.
func readRecords(ctx context.Context, s store.Store, from int64, limit int) ([][]byte, error) {
	after := ""
	if from > 0 {
		after = recordKey(from - 1)
	}
	items, err := s.List(ctx, recordPrefix, after, limit)
	if err != nil {
		return nil, err
	}
	records := make([][]byte, len(items))
	for i, item := range items {
		if _, records[i], err = decodeLeaf(from+int64(i), item.Value); err != nil {
			return nil, err
		}
	}
	return records, nil
}
