"""Signs a release, or anything else that is published, in the repository of its list, before a tag refers to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from build.attest.attach import Attachment, Signing, Subject, attach, settle_tags, sign
from build.attest.attached import NAMES
from build.errors import all_of
from build.oci.image import Index
from build.oci.reference import Repository
from build.report import Event, Report, Result
from build.stores.store import Store


@dataclass(frozen=True)
class Signed:
    """A result: content that is signed, with the hint at its key, as in bundles, and what is stated about it.

    `change` is "signed", or "kept" if all of that was there.
    """

    repository: Repository
    digest: str
    platform: str | None
    key: str
    what: tuple[str, ...]
    change: str

    @property
    def name(self) -> str:
        """The reference of what is signed."""
        return f"{self.repository}@{self.digest}"

    def __str__(self) -> str:
        return f"{self.name}  {', '.join(self.what)}  key {self.key}"

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        return {
            "kind": "signed",
            "registry": self.repository.host or None,
            "repository": self.repository.name,
            "digest": self.digest,
            "platform": self.platform,
            "key": self.key,
            "attached": list(self.what),
            "change": self.change,
        }


AnyResult = Result | Signed


@dataclass(frozen=True)
class Signatures:
    """Signs in a `repository` of the store `place`; `spool` is a folder for what has to be read.

    A `dry` run writes nothing.
    """

    place: Store
    repository: Repository
    signing: Signing
    spool: Path
    report: Report
    dry: bool = False

    async def attach(self, subjects: Sequence[Subject]) -> list[Attachment]:
        """Sign subjects, and store what their repository lacks of that.

        Raises PublishError if the store fails or refuses it.
        """
        attachments = await sign(self.place, self.repository, subjects, self.signing, self.spool)
        if not self.dry:
            await attach(self.place, self.repository, attachments)
        return attachments

    async def store(self, index: Index | None) -> None:
        """Store a manifest list by its digest, before anything refers to it."""
        if index and not self.dry:
            await self.place.put_manifest(self.repository, index.manifest)

    def results(self, attachments: Sequence[Attachment]) -> list[Signed]:
        """Report and return what is signed, in the order of the subjects."""
        results = [self._result(each) for each in attachments]
        for each in results:
            line = f"{each.name}: {'already signed' if each.change == 'kept' else self._done}"
            self.report(Event(f"{line}: {', '.join(each.what)}", result=each))
        return results

    async def settle(self, attachments: Sequence[Attachment]) -> None:
        """Read back what was attached, and attach again what another run has overwritten meanwhile."""
        if not self.dry:
            await all_of([settle_tags(self.place, self.repository, attachments), self.place.settle_referrers()])

    @property
    def _done(self) -> str:
        return "would be signed" if self.dry else "signed"

    def _result(self, attachment: Attachment) -> Signed:
        subject = attachment.subject
        names = tuple(NAMES.get(each.predicate_type, each.predicate_type) for each in subject.all_statements)
        platform = str(subject.descriptor.platform) if subject.descriptor.platform else None
        change = "kept" if attachment.is_complete else "signed"
        hint = self.signing.signer.public.hint
        return Signed(self.repository, subject.digest, platform, hint, names, change)
