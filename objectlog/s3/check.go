package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"github.com/splashdam/splashdam/objectlog"
)

// Check finds out, before anything depends on it, whether the bucket is fit for a cluster under the prefix. The error names every problem
// and what to do about it. It writes scratch objects under <prefix>/self-test-…, and removes them.
func (b *Bucket) Check(ctx context.Context, prefix string) error {
	err := insist(ctx, func() error {
		_, err := b.List(ctx, joinKey(prefix, ""), "", 1)
		return err
	})
	if err != nil && !denied(err) {
		return err // nothing further could tell more: no store, no bucket, or no credentials
	}
	problems := []error{err}
	problems = append(problems, b.checkRules(ctx, prefix))
	problems = append(problems, b.selfTest(ctx, prefix)...)
	return errors.Join(problems...)
}

// insist repeats a step that got no answer, a few times: one lost answer says nothing about the bucket.
func insist(ctx context.Context, step func() error) error {
	for tries := 1; ; tries++ {
		err := step()
		r := (*refusal)(nil)
		answered := errors.As(err, &r) && r.status < http.StatusInternalServerError && !errors.Is(err, objectlog.ErrThrottled)
		if err == nil || answered || tries == stepTries || errors.Is(err, objectlog.ErrExists) {
			return err
		}
		select {
		case <-time.After(stepPause):
		case <-ctx.Done():
			return err
		}
	}
}

const (
	stepTries = 5
	stepPause = 200 * time.Millisecond
)

func joinKey(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "/" + name
}

// denied says whether the store knows the credentials and does not allow them this one thing.
func denied(err error) bool {
	r := (*refusal)(nil)
	return errors.As(err, &r) && r.status == http.StatusForbidden && (r.code == "" || r.code == "AccessDenied") && !r.credentials()
}

// checkRules looks for what the bucket does to objects by itself: keep versions, hold them, expire or move them.
func (b *Bucket) checkRules(ctx context.Context, prefix string) error {
	var (
		versions minio.BucketVersioningConfiguration
		rules    = &lifecycle.Configuration{}
		mode     *minio.RetentionMode
		problems []error
	)
	ask := func(k kind, call func(ctx context.Context) error) {
		err := insist(ctx, func() error { return b.do(ctx, &exchange{kind: k}, call) })
		if err != nil && !hasNone(err) {
			problems = append(problems, err)
		}
	}
	ask(getVersioning, func(ctx context.Context) (err error) {
		versions, err = b.sdk.GetBucketVersioning(ctx, b.name)
		return err
	})
	ask(getLifecycle, func(ctx context.Context) error {
		found, err := b.sdk.GetBucketLifecycle(ctx, b.name)
		if err == nil {
			rules = found
		}
		return err
	})
	ask(getLock, func(ctx context.Context) (err error) {
		mode, _, _, err = b.sdk.GetBucketObjectLockConfig(ctx, b.name)
		return err
	})
	if mode != nil {
		problems = append(problems, fmt.Errorf("bucket %s: object lock keeps every object for a time (%s): what retention deletes stays and costs; "+
			"remove the default retention, or use another bucket", b.name, strings.ToLower(mode.String())))
	}
	// With versions a delete only hides. Nobody would notice before the bill comes, so it is refused unless the hidden ones go.
	if versions.Enabled() && !expiresHidden(rules, prefix) {
		problems = append(problems, fmt.Errorf("bucket %s: it keeps versions, so what retention deletes stays and costs; "+
			"suspend versioning, or add a lifecycle rule that expires noncurrent versions of %q after a day", b.name, prefix))
	}
	for _, rule := range rules.Rules {
		if does := harms(rule, prefix); does != "" {
			problems = append(problems, fmt.Errorf("bucket %s: lifecycle rule %q %s objects under %q, records that are still wanted among them; "+
				"remove the rule, or limit it to another prefix: retention is a setting of topics", b.name, rule.ID, does, prefix))
		}
	}
	return errors.Join(problems...)
}

// hasNone says whether the store answered that nothing is configured, or that it knows no such thing.
func hasNone(err error) bool {
	r := (*refusal)(nil)
	if !errors.As(err, &r) || r.text {
		return false
	}
	switch r.code {
	case "NoSuchLifecycleConfiguration", "ObjectLockConfigurationNotFoundError", "NotImplemented", "MethodNotAllowed":
		return true
	}
	return r.status == http.StatusNotImplemented
}

// harms says what a rule does to objects under the prefix; empty: nothing. Our objects have no tags.
func harms(rule lifecycle.Rule, prefix string) string {
	filter := rule.RuleFilter
	if rule.Status != "Enabled" || !filter.Tag.IsEmpty() || len(filter.And.Tags) > 0 || !overlap(rulePrefix(rule), prefix) {
		return ""
	}
	expiration := rule.Expiration
	switch {
	case expiration.Days != 0 || !expiration.Date.IsZero() || bool(expiration.DeleteAll) || !rule.AllVersionsExpiration.IsNull():
		return "expires"
	case rule.Transition.StorageClass != "" || rule.Transition.Days != 0 || !rule.Transition.Date.IsZero():
		return "moves to another storage class"
	}
	return ""
}

// expiresHidden says whether a rule removes noncurrent versions of everything under the prefix.
func expiresHidden(rules *lifecycle.Configuration, prefix string) bool {
	ours := joinKey(prefix, "") // with its slash: a rule for "prod/" does nothing under "prod2"
	for _, rule := range rules.Rules {
		filter := rule.RuleFilter
		everything := filter.Tag.IsEmpty() && len(filter.And.Tags) == 0 && strings.HasPrefix(ours, rulePrefix(rule)) &&
			filter.ObjectSizeGreaterThan+filter.ObjectSizeLessThan+filter.And.ObjectSizeGreaterThan+filter.And.ObjectSizeLessThan == 0
		if rule.Status == "Enabled" && everything && rule.NoncurrentVersionExpiration.NoncurrentDays > 0 {
			return true
		}
	}
	return false
}

func rulePrefix(rule lifecycle.Rule) string {
	return rule.RuleFilter.Prefix + rule.RuleFilter.And.Prefix + rule.Prefix // a rule has one of them
}

// overlap says whether an object can be under both prefixes; ours ends at a slash.
func overlap(rule, prefix string) bool {
	ours := joinKey(prefix, "")
	return strings.HasPrefix(ours, rule) || strings.HasPrefix(rule, ours)
}

// selfTest does with scratch objects what the product will do with its own, and looks for a store that only seems to do it.
func (b *Bucket) selfTest(ctx context.Context, prefix string) (problems []error) {
	key := joinKey(prefix, "self-test-"+newNonce().String())
	body := []byte("Splashdam's self-test of the bucket; it may be deleted.")
	nonce := newNonce()
	defer func() { problems = append(problems, b.removeScratch(ctx, key, key+"-race")) }()
	if err := insist(ctx, func() error { return b.Put(ctx, key, body, nonce) }); err != nil {
		return append(problems, err)
	}
	fail := func(err error) { problems = append(problems, err) }
	var info objectlog.ObjectInfo
	err := insist(ctx, func() (err error) {
		info, err = b.Stat(ctx, key)
		return err
	})
	switch {
	case err != nil:
		fail(err)
	case info.Bytes != int64(len(body)) || info.Nonce != nonce:
		fail(fmt.Errorf("stat %s: the store does not keep what was stored with an object (x-amz-meta-nonce); use another store", b.location(key)))
	}
	var part []byte
	err = insist(ctx, func() (err error) {
		part, err = b.Get(ctx, key, objectlog.Extent{Start: 3, Next: 9})
		return err
	})
	switch {
	case denied(err): // the Stat before it wants the same permission and has said so
	case err != nil:
		fail(err)
	case !bytes.Equal(part, body[3:9]):
		fail(fmt.Errorf("get %s: the store answers other bytes than were stored; use another store", b.location(key)))
	}
	fail(b.conditional(ctx, key, body))
	fail(b.race(ctx, key+"-race"))
	return problems
}

const unconditional = "the store overwrites an object in spite of If-None-Match: *, so two agents could take each other's segment; " +
	"use a store that has conditional writes (Amazon S3, MinIO of 2024 or later)"

// conditional puts other contents under a key that is taken, in one request and in parts: the store itself must refuse, before any
// comparison of ours.
func (b *Bucket) conditional(ctx context.Context, key string, body []byte) error {
	other := bytes.ToUpper(body)
	want := contentFor(other, newNonce())
	var problems []error
	errPut := insist(ctx, func() error { return b.putWhole(ctx, key, other, want) })
	errParts := insist(ctx, func() error {
		err, errAbort := b.putParts(ctx, key, other, want)
		problems = append(problems, errAbort)
		return err
	})
	for how, err := range map[string]error{"put": errPut, "complete parts of": errParts} {
		r := (*refusal)(nil)
		switch {
		case err == nil:
			problems = append(problems, fmt.Errorf("%s %s: %s", how, b.location(key), unconditional))
		case errors.As(err, &r) && (r.status == http.StatusPreconditionFailed || r.code == "PreconditionFailed"):
		default:
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// race lets several writers take one key at once.
func (b *Bucket) race(ctx context.Context, key string) error {
	const writers = 8
	var all sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		all.Go(func() {
			body := fmt.Appendf(nil, "Splashdam's self-test, writer %d", i)
			nonce := newNonce()
			errs[i] = insist(ctx, func() error { return b.Put(ctx, key, body, nonce) })
		})
	}
	all.Wait()
	won, lost, unknown := 0, 0, error(nil)
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case errors.Is(err, objectlog.ErrExists):
			lost++
		default:
			unknown = err
		}
	}
	switch {
	case won > 1:
		return fmt.Errorf("put %s by %d at once: %d were told that they stored it; %s", b.location(key), writers, won, unconditional)
	case won == 0 && lost == writers:
		return fmt.Errorf("put %s by %d at once: all were refused; use another store", b.location(key), writers)
	case won == 0:
		return unknown
	}
	return nil // an unknown outcome or two beside a winner are what a busy store answers
}

// removeScratch removes what the self-test may have written, even if the caller's time is over.
func (b *Bucket) removeScratch(ctx context.Context, keys ...string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scratchMax)
	defer cancel()
	var problems []error
	for _, key := range keys {
		if err := insist(ctx, func() error { return b.Delete(ctx, key) }); err != nil {
			problems = append(problems, err)
			if denied(err) {
				break // the others would say the same
			}
		}
	}
	return errors.Join(problems...)
}

// scratchMax is time for two deletes by a store that is slow.
const scratchMax = 20 * time.Second

func newNonce() objectlog.UUID { return objectlog.NewUUID(rand.Uint64) }
