"""Content discovery: the tags and the referrers that this node itself knows of.

Source: OCI distribution spec 1.1, "Listing Tags" and "Listing Referrers". A mirror knows only a part of what
the registry knows. So only requests that name no registry are answered. Those that name one get a 404, and
the client asks the registry. A tag is listed if this node would say which digest it has.
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from agent.content.offer import KnownTag, Offer
from agent.content.store import ContentError, TaggedImage
from agent.content.verified import read_manifest
from agent.oci.errors import NameUnknown
from agent.oci.manifest import OCI_INDEX
from agent.oci.reference import ReferrerList, TagList


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """Lists from this node's store."""

    offer: Offer

    def tags(self, target: TagList) -> web.Response:
        """The tags of a repository in lexical order, after ``last``, at most ``limit`` of them."""
        images, judge = self._images(target), self.offer.judge
        known = sorted({str(image.name.tag) for image in images if isinstance(judge(image), KnownTag)})
        if not known:
            raise NameUnknown(f"{target.repository}: this node knows no tag of it")
        after = [tag for tag in known if target.last is None or tag > target.last]
        shown = after if target.limit is None else after[: target.limit]
        headers = {"Content-Type": "application/json"}
        if shown and len(shown) < len(after):
            query = urlencode({"n": target.limit, "last": shown[-1]})
            headers["Link"] = f'</v2/{target.repository}/tags/list?{query}>; rel="next"'
        body = json.dumps({"name": target.repository, "tags": shown}).encode()
        return web.Response(body=body, headers=headers)

    async def referrers(self, target: ReferrerList) -> web.Response:
        """An index of the manifests whose subject is the digest; empty when this node knows of none."""
        found: dict[str, dict[str, Any]] = {}
        for image in self._images(target):
            descriptor = await self._as_referrer(image, target)
            if descriptor is not None:
                found[descriptor["digest"]] = descriptor
        headers = {"Content-Type": OCI_INDEX}
        if target.artifact_type is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(found.values())}
        return web.Response(body=json.dumps(index).encode(), headers=headers)

    def _images(self, target: TagList | ReferrerList) -> tuple[TaggedImage, ...]:
        if target.registry is not None:
            raise NameUnknown(
                f"{target.registry}/{target.repository}: only the registry knows all of it",
                hint="leave ns= out to see what this node knows",
            )
        return self.offer.images(target.repository)

    async def _as_referrer(self, image: TaggedImage, target: ReferrerList) -> dict[str, Any] | None:
        digest = image.descriptor.digest
        try:
            manifest = await read_manifest(await self.offer.store.open(digest), digest)
        except ContentError:
            return None
        if manifest is None or manifest.subject != target.digest:
            return None
        if target.artifact_type not in (None, manifest.artifact_type):
            return None
        return {
            "mediaType": manifest.media_type,
            "digest": digest,
            "size": len(manifest.content),
            **({} if manifest.artifact_type is None else {"artifactType": manifest.artifact_type}),
            "annotations": manifest.annotations,
        }
