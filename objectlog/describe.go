package objectlog

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"
)

// SegmentDescription is all that a segment holds, for people and for programs: WriteText prints it, and it has field
// names as JSON. What is damaged says so where it is found; what is left out could not be read.
type SegmentDescription struct {
	Bytes    int64                `json:"bytes"`
	Header   headerDescription    `json:"header"`
	Sections []sectionDescription `json:"sections,omitempty"`
	Strays   *strayBatches        `json:"found_without_footer,omitempty"` // nil: the footer is whole
	Footer   *footerDescription   `json:"footer,omitempty"`               // nil: the trailer, which says where it is, is damaged
	Trailer  trailerDescription   `json:"trailer"`
	Error    string               `json:"error,omitempty"` // the first damage
	first    error
}

// damage is what is wrong with the bytes at a position.
type damage struct {
	At    int64  `json:"at"`
	Cause string `json:"cause"`
}

type headerDescription struct {
	Format int     `json:"format,omitempty"` // 0: damaged
	Damage *damage `json:"damage,omitempty"`
}

type footerDescription struct {
	Extent
	CRC32C   string  `json:"crc32c"`
	Sections int     `json:"sections"`
	Damage   *damage `json:"damage,omitempty"` // of the footer, or, when there are no strays, of the bytes before it
}

type trailerDescription struct {
	Extent
	Format int     `json:"format,omitempty"` // 0: damaged
	Damage *damage `json:"damage,omitempty"`
}

type sectionDescription struct {
	Shard Shard `json:"shard"`
	Extent
	CRC32C string           `json:"crc32c"`
	Damage *damage          `json:"damage,omitempty"`
	Runs   []runDescription `json:"runs,omitempty"`
}

type runDescription struct {
	Topic     string    `json:"topic"`
	Partition Partition `json:"partition"`
	Extent
	Damage  *damage            `json:"damage,omitempty"`
	Batches []batchDescription `json:"batches"`
}

// strayBatches lie one behind the other in a segment without a footer.
type strayBatches struct {
	Batches []batchDescription `json:"batches"`
	End     *damage            `json:"end,omitempty"` // where they end early, and why
}

type batchDescription struct {
	Extent
	*batchFields                      // nil: damaged
	Expected      *Offset             `json:"expected_offset,omitempty"` // as the footer has it
	RowDamage     *damage             `json:"row_damage,omitempty"`      // the footer says otherwise than the batch
	RecordDetails []recordDescription `json:"record_details,omitempty"`  // if asked for; those before the damage
	Damage        *damage             `json:"damage,omitempty"`
}

// batchFields are the fields of BatchHeader in words.
type batchFields struct {
	BaseOffset      Offset               `json:"base_offset"` // patched when served, as is the epoch
	Bytes           int                  `json:"bytes"`
	LeaderEpoch     Epoch                `json:"leader_epoch"`
	CRC32C          string               `json:"crc32c"`
	Codec           string               `json:"codec"`
	LogAppendTime   bool                 `json:"log_append_time"`
	Transactional   bool                 `json:"transactional"`
	Control         bool                 `json:"control"`
	LastOffsetDelta int32                `json:"last_offset_delta"`
	FirstTimestamp  string               `json:"first_timestamp,omitempty"` // empty: none, as in the next and in records
	MaxTimestamp    string               `json:"max_timestamp,omitempty"`
	Producer        *producerDescription `json:"producer,omitempty"`
	Records         int32                `json:"records"`
}

type producerDescription struct {
	ID            ProducerID `json:"id"`
	Epoch         int16      `json:"epoch"`
	FirstSequence int32      `json:"first_sequence"`
}

// recordDescription has key and value as Readable answers them.
type recordDescription struct {
	OffsetDelta Offset                    `json:"offset_delta"`
	Timestamp   string                    `json:"timestamp,omitempty"`
	Key         *string                   `json:"key,omitempty"`
	KeyBase64   []byte                    `json:"key_base64,omitempty"`
	Value       *string                   `json:"value,omitempty"`
	ValueBase64 []byte                    `json:"value_base64,omitempty"`
	Headers     []recordHeaderDescription `json:"headers,omitempty"`
}

type recordHeaderDescription struct {
	Name        string  `json:"name"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// DescribeSegment reads and verifies a whole segment, down to the records, which it describes too if asked for: they are
// all in memory then. Damage ends nothing: the rest is described as far as it can be read, and without a footer, batches
// are looked for one behind the other.
func DescribeSegment(body []byte, records bool) SegmentDescription {
	w := segmentWalk{body: body, records: records}
	d := w.segment()
	if w.first != nil {
		d.first, d.Error = w.first, w.first.Error()
	}
	return d
}

// Err is the first damage found: ErrCorrupt, ErrInvalid, ErrVersion or ErrTooLarge.
func (d *SegmentDescription) Err() error { return d.first }

type segmentWalk struct {
	body    []byte
	records bool
	at      int64 // where the batches read so far end
	first   error
}

func (w *segmentWalk) damage(at int64, err error) *damage {
	if w.first == nil {
		w.first = fmt.Errorf("segment, byte %d: %w", at, err)
	}
	return &damage{At: at, Cause: err.Error()}
}

func (w *segmentWalk) segment() SegmentDescription {
	size := int64(len(w.body))
	d := SegmentDescription{Bytes: size}
	if err := checkSegmentHeader(w.body); err != nil {
		d.Header.Damage = w.damage(0, err)
	} else {
		d.Header.Format = segmentVersion
	}
	w.at = segmentHeaderBytes
	d.Trailer.Extent = Extent{Start: max(size-segmentTrailerBytes, 0), Next: size}
	footer, err := parseSegmentTrailer(w.body[d.Trailer.Start:], size)
	if err != nil {
		d.Trailer.Damage = w.damage(d.Trailer.Start, err)
		d.Strays = w.strays(size)
		return d
	}
	d.Trailer.Format = segmentVersion
	d.Footer = &footerDescription{Extent: footer.Extent, CRC32C: hex32(footer.CRC32C)}
	sections, err := decodeFooter(w.body[footer.Extent.Start:footer.Extent.Next], footer)
	if err != nil {
		d.Footer.Damage = w.damage(footer.Extent.Start, err)
		d.Strays = w.strays(footer.Extent.Start)
		return d
	}
	d.Footer.Sections = len(sections)
	for _, s := range sections {
		d.Sections = append(d.Sections, w.section(s))
	}
	if w.at != footer.Extent.Start {
		d.Footer.Damage = w.damage(w.at, fmt.Errorf("%d bytes before the footer belong to no run: %w", footer.Extent.Start-w.at, ErrCorrupt))
	}
	return d
}

func checkSegmentHeader(body []byte) error {
	if len(body) < segmentHeaderBytes || string(body[:4]) != segmentMagic {
		return fmt.Errorf("segment header: begins with %q, not %q: %w", body[:min(len(body), 4)], segmentMagic, ErrCorrupt)
	}
	if err := checkSegmentVersion(binary.BigEndian.Uint32(body[4:])); err != nil {
		return fmt.Errorf("segment header: %w", err)
	}
	return nil
}

func (w *segmentWalk) section(s Section) sectionDescription {
	d := sectionDescription{Shard: s.Shard, Extent: s.Ref.Extent, CRC32C: hex32(s.Ref.CRC32C)}
	runs, err := DecodeSection(s.Bytes, s.Ref)
	if err != nil {
		d.Damage = w.damage(s.Ref.Extent.Start, err)
		return d
	}
	for _, run := range runs {
		d.Runs = append(d.Runs, w.run(run))
	}
	return d
}

func (w *segmentWalk) run(run Run) runDescription {
	d := runDescription{Topic: run.Topic.String(), Partition: run.Partition, Batches: make([]batchDescription, len(run.Rows))}
	if run.Start != w.at {
		d.Damage = w.damage(run.Start, fmt.Errorf("run starts here, the one before ended at %d: %w", w.at, ErrCorrupt))
	}
	w.at = run.Start
	for i := range run.Rows {
		row := &run.Rows[i]
		d.Batches[i] = w.batch(w.body[w.at:w.at+int64(row.Bytes)], row)
	}
	d.Extent = Extent{Start: run.Start, Next: w.at}
	return d
}

// strays describes the batches that lie one behind the other up to end.
func (w *segmentWalk) strays(end int64) *strayBatches {
	d := strayBatches{Batches: []batchDescription{}}
	for w.at < end {
		h, err := ParseBatchHeader(w.body[w.at:end])
		if err != nil {
			d.End = &damage{At: w.at, Cause: err.Error()} // what the damage of footer or trailer leads to
			break
		}
		d.Batches = append(d.Batches, w.batch(w.body[w.at:w.at+int64(h.Bytes)], nil))
	}
	return &d
}

// batch describes and verifies the next batch, against its row if there is one.
func (w *segmentWalk) batch(b []byte, row *BatchRow) batchDescription {
	at := w.at
	w.at += int64(len(b))
	d := batchDescription{Extent: Extent{Start: at, Next: w.at}}
	h, err := ParseBatchHeader(b)
	if err != nil {
		d.Damage = w.damage(at, err)
		return d
	}
	d.batchFields = describeHeader(h)
	if row != nil {
		if row.Expected != NoOffset {
			d.Expected = &row.Expected
		}
		if err := row.checkHeader(h); err != nil {
			d.RowDamage = w.damage(at, err)
		}
	}
	if err := DecodeBatch(b, Limits{}, func(offset Offset, r Record) bool {
		if w.records {
			d.RecordDetails = append(d.RecordDetails, describeRecord(offset-h.BaseOffset, r))
		}
		return true
	}); err != nil {
		d.Damage = w.damage(at, err)
	}
	return d
}

// checkHeader compares what the footer says about a batch with its header.
func (r BatchRow) checkHeader(h BatchHeader) error {
	for _, field := range []struct {
		name      string
		row, want int64
	}{
		{"bytes", int64(r.Bytes), int64(h.Bytes)},
		{"records", int64(r.Records), int64(h.LastOffsetDelta) + 1},
		{"max timestamp", int64(r.MaxTimestamp), int64(h.MaxTimestamp)},
		{"producer id", int64(r.ProducerID), int64(h.ProducerID)},
		{"producer epoch", int64(r.ProducerEpoch), int64(h.ProducerEpoch)},
		{"first sequence", int64(r.FirstSequence), int64(h.FirstSequence)},
		{"CRC32C", int64(r.CRC), int64(h.CRC)},
	} {
		if field.row != field.want {
			return fmt.Errorf("%s in the footer is %d, in the batch %d: %w", field.name, field.row, field.want, ErrCorrupt)
		}
	}
	return nil
}

func describeHeader(h BatchHeader) *batchFields {
	d := batchFields{
		BaseOffset: h.BaseOffset, Bytes: h.Bytes, LeaderEpoch: h.LeaderEpoch, CRC32C: hex32(h.CRC), Codec: h.Codec.name(),
		LogAppendTime: h.LogAppendTime, Transactional: h.Transactional, Control: h.Control, LastOffsetDelta: h.LastOffsetDelta,
		FirstTimestamp: h.FirstTimestamp.text(), MaxTimestamp: h.MaxTimestamp.text(), Records: h.Records,
	}
	if h.ProducerID != NoProducer {
		d.Producer = &producerDescription{ID: h.ProducerID, Epoch: h.ProducerEpoch, FirstSequence: h.FirstSequence}
	}
	return &d
}

func describeRecord(delta Offset, r Record) recordDescription {
	d := recordDescription{OffsetDelta: delta, Timestamp: r.Timestamp.text()}
	d.Key, d.KeyBase64 = Readable(r.Key)
	d.Value, d.ValueBase64 = Readable(r.Value)
	for _, h := range r.Headers {
		header := recordHeaderDescription{Name: h.Key}
		header.Value, header.ValueBase64 = Readable(h.Value)
		d.Headers = append(d.Headers, header)
	}
	return d
}

// Readable is how key and value of a record are shown as JSON: as text where they are text, else as bytes (base64);
// neither for a null.
func Readable(b []byte) (text *string, bytes []byte) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	return nil, b
}

func (codec Codec) name() string {
	names := [...]string{"none", "gzip", "snappy", "lz4", "zstd"}
	if int(codec) < len(names) {
		return names[codec]
	}
	return fmt.Sprintf("codec %d", codec)
}

// text is a time in RFC 3339, or one that goes on like it beyond the year 9999; empty for none.
func (t Timestamp) text() string {
	if t == NoTimestamp {
		return ""
	}
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02T15:04:05.000Z")
}

func hex32(crc uint32) string { return fmt.Sprintf("%08x", crc) }
