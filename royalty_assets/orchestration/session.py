"""The resource that assets share: a project with its stores, opened on first use."""

from collections.abc import Callable

from royalty_assets.audit.keys import ensure_signing_key, signing_key_of
from royalty_assets.domain.batches import Stage
from royalty_assets.domain.feeds import Project
from royalty_assets.pipeline.context import Outcome, PipelineContext
from royalty_assets.settings import Settings, feed_tokens
from royalty_assets.sources.templates import bundled_templates, read_templates
from royalty_assets.storage.lakes import open_lake
from royalty_assets.storage.registry import open_registry

OutcomeListener = Callable[[str, Stage, Outcome], None]


class PipelineSession:
    """A project, opened when first asked for; nothing is touched before.

    Args:
        settings: where things are.
        project: the configuration.
        on_outcome: told of each partition as it is done (progress bars listen here).
    """

    def __init__(
        self,
        settings: Settings,
        project: Project,
        on_outcome: OutcomeListener = lambda *_: None,
    ) -> None:
        self.settings = settings
        self.project = project
        self.on_outcome = on_outcome
        self._context: PipelineContext | None = None

    @property
    def context(self) -> PipelineContext:
        """The open project."""
        if self._context is None:
            home = self.settings.home.resolve()
            self._context = PipelineContext(
                project=self.project,
                home=home,
                lake=open_lake(self.settings),
                registry=open_registry(
                    self.settings.registry, migrates=self.settings.registry_migrates
                ),
                templates=[*bundled_templates(), *read_templates(home / "templates")],
                tokens=feed_tokens(self.project),
                signer=signing_key_of(home, self._given_key),
            )
        return self._context

    def ensure_signer(self) -> None:
        """Give the project a key if it has none, before it is opened.

        Raises:
            SigningKeyError: if its key cannot be used.
        """
        ensure_signing_key(self.settings.home.resolve(), self._given_key)

    @property
    def _given_key(self) -> str:
        return self.settings.signing_key.get_secret_value()

    def close(self) -> None:
        """Give the registry's connections back."""
        if self._context is not None:
            self._context.registry.close()
            self._context = None
