"""A LangChain agent that remembers across conversations. Runs offline as it stands.

With a real model and your own store:
    ENGRAM_CHAT_MODEL=openai:gpt-5.5 ENGRAM_URL=./.engram python examples/langchain_agent.py
"""

from __future__ import annotations

import os
import tempfile

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel, FakeListChatModel

from engram_core import Engram
from engram_langchain import EngramMemory, create_agent

SCOPE = "acme/support/alice"
SCRIPT = ["Noted, I will keep that in mind.", "You are allergic to peanuts and satay has them: take the lemon risotto."]


def model() -> BaseChatModel:
    name = os.environ.get("ENGRAM_CHAT_MODEL")
    return init_chat_model(name) if name else FakeListChatModel(responses=SCRIPT)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Engram.open(os.environ.get("ENGRAM_URL", directory)) as engram:
        agent = create_agent(model(), memory=EngramMemory(scope=SCOPE, engram=engram))
        for text in (
            "I am Alice, and I am allergic to peanuts.",
            "Should I order the chicken satay or the lemon risotto?",
        ):
            # Two separate conversations: no checkpointer, no thread. What connects them is memory.
            answer = agent.invoke({"messages": [("user", text)]})["messages"][-1].text
            print(f"Alice: {text}\nAgent: {answer}\n")
        memory = engram.memory(SCOPE)
        for fact in memory.list(limit=2):
            print(memory.explain(fact.id), end="\n\n")


if __name__ == "__main__":
    main()
